// Keys press the buttons of a vote: a, d and u, as they say. The forms work without this.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const button = document.querySelector(`form.vote button[data-key="${CSS.escape(event.key)}"]`);
  if (button) button.form.requestSubmit(button);
});
