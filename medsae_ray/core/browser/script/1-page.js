"use strict";
// One classic script for all pages, of the files script/*.js in their order: it works from a folder and behind the
// service. Texts of the run are set as text, never as markup.
const Medsae = {
  root: document.documentElement,

  stored(key) {
    try { return localStorage.getItem(`medsae-${key}`); } catch { return null; }
  },

  store(key, value) {
    try {
      if (value === null) localStorage.removeItem(`medsae-${key}`);
      else localStorage.setItem(`medsae-${key}`, value);
    } catch { /* a browser that stores nothing forgets the choice */ }
  },

  // An element with attributes, and texts or elements in it.
  make(tag, attributes = {}, ...content) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...content);
    return made;
  },

  svg(tag, attributes = {}, ...content) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...content);
    return made;
  },

  number(value, digits = 2, signed = false) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const text = Math.abs(value).toFixed(digits);
    const sign = value < 0 ? "−" : signed ? "+" : "";
    return /[1-9]/.test(text) ? sign + text : text;
  },

  save(name, type, text) {
    const link = this.make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  },

  // A file of data: a page from a folder may load a script, but may not fetch.
  load(path) {
    return new Promise((done, failed) => {
      const script = this.make("script", { src: this.at(path) });
      script.onload = done;
      script.onerror = () => failed(new Error(path));
      document.head.append(script);
    });
  },

  at(path) { return document.body.dataset.root + path; },

  actions: {},
  keys: {},
};

// Before anything is painted, so that a dark room sees no white page.
if (["dark", "light"].includes(Medsae.stored("theme"))) Medsae.root.dataset.theme = Medsae.stored("theme");

Medsae.actions.theme = Medsae.keys.d = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const order = dark ? [null, "light", "dark"] : [null, "dark", "light"];
  const next = order[(order.indexOf(Medsae.root.dataset.theme ?? null) + 1) % order.length];
  if (next) Medsae.root.dataset.theme = next; else delete Medsae.root.dataset.theme;
  Medsae.store("theme", next);
};

Medsae.actions.keys = Medsae.keys["?"] = () => {
  const dialog = document.getElementById("keys");
  if (dialog.open) dialog.close(); else dialog.showModal();
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) Medsae.actions[button.dataset.do]?.(button);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=range]), textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (document.getElementById("keys").open && event.key !== "?") return;
  const act = Medsae.keys[event.key];
  const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!act && !link) return;
  if (event.key === " " && event.target.closest("button, summary")) return;
  event.preventDefault();
  if (act) act(event); else link.click();
});

document.addEventListener("DOMContentLoaded", () => {
  for (const tools of document.querySelectorAll(".tools, form.filters, form.pick, form.window")) tools.hidden = false;
  const why = document.querySelector('[data-key="w"]');
  why?.addEventListener("click", () => { document.getElementById("why").tabIndex = -1; document.getElementById("why").focus(); });
});

document.addEventListener("input", (event) => {
  if (event.target.name === "tint") document.body.style.setProperty("--tint", Number(event.target.value) / 100);
});

// Heat maps hide as long as Shift is held.
for (const [kind, off] of [["keydown", true], ["keyup", false]]) {
  document.addEventListener(kind, (event) => {
    if (event.key === "Shift") document.body.classList.toggle("heat-off", off);
  });
}
