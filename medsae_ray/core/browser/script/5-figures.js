// Figures as files: an SVG with its style in it, what it may be used for, and what to cite.
Medsae.figure = {
  shown: "svg.histogram, svg.correlations, svg.strip, svg.roc, svg.auroc-rows, svg.heat-map, svg.feature-map, svg.panel",
  style: ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "font-size", "font-family", "text-anchor", "opacity"],

  text(svg) {
    const copy = svg.cloneNode(true);
    const [from, to] = [svg, copy].map((one) => [one, ...one.querySelectorAll("*")]);
    for (const [place, element] of from.entries()) {
      const computed = getComputedStyle(element);
      for (const name of this.style) to[place].setAttribute(name, computed.getPropertyValue(name));
    }
    for (const link of copy.querySelectorAll("a")) link.removeAttribute("href");
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.prepend(Medsae.svg("desc", {}, document.querySelector("footer p").textContent.replace(/\s+/g, " ").trim()));
    return new XMLSerializer().serializeToString(copy);
  },
};

Medsae.actions.figure = (button) => {
  const svg = button.parentElement.previousElementSibling;
  Medsae.save(`${document.body.dataset.page}-${svg.classList[0]}.svg`, "image/svg+xml", Medsae.figure.text(svg));
};

document.addEventListener("DOMContentLoaded", () => {
  for (const svg of document.querySelectorAll(Medsae.figure.shown)) {
    const said = `Save as SVG: ${svg.getAttribute("aria-label")}`;
    svg.after(Medsae.make("p", { class: "figure-tools" }, Medsae.make("button", { type: "button", "data-do": "figure", "aria-label": said }, "SVG")));
  }
});
