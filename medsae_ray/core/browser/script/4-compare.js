// Two to four features on the same axes, with one choice of images.
Medsae.compare = {
  most: 4,

  taken() {
    return (Medsae.stored("compare") ?? "").split(",").filter((text) => /^\d+$/.test(text)).map(Number).slice(0, this.most);
  },

  take(feature) {
    const taken = this.taken();
    const next = taken.includes(feature) ? taken.filter((other) => other !== feature) : [...taken, feature].slice(-this.most);
    Medsae.store("compare", next.join(",") || null);
    this.link();
  },

  // The link in the head of the page leads to what is taken.
  link() {
    const taken = this.taken();
    const link = document.querySelector('header nav a[href$="compare.html"], header nav a[href*="compare.html#"]');
    link.href = Medsae.at("compare.html") + (taken.length ? `#f=${taken.join(",")}` : "");
    link.textContent = taken.length ? `Compare (${taken.length})` : "Compare";
    for (const button of document.querySelectorAll('[data-do="take"]')) {
      const there = taken.includes(Number(button.dataset.feature));
      button.hidden = false;
      button.setAttribute("aria-pressed", there);
      button.textContent = there ? "In the comparison" : "Compare";
    }
  },

  async start() {
    const chosen = new URLSearchParams(location.hash.slice(1)).get("f") ?? "";
    const known = new Map(window.medsaeFeatures.feature.map((feature, place) => [feature, place]));
    const features = [...new Set(chosen.split(/[ ,]+/).filter((text) => /^\d+$/.test(text)).map(Number))].filter((f) => known.has(f)).slice(0, this.most);
    const said = document.querySelector(".picked");
    document.querySelector("form.pick").f.value = features.join(", ");
    if (features.length < 2) { said.textContent = "Choose two to four features by their numbers, or take them with c on the grid."; return; }
    await Promise.all(features.map((feature) => Medsae.load(`data/${feature}.js`)));
    said.textContent = "";
    this.features = features.map((feature) => ({
      feature, name: window.medsaeFeatures.name[known.get(feature)] || "Unnamed", ...window.medsaeFeature[feature],
    }));
    for (const one of this.features) one.value = new Map(one.images.map((image, i) => [image, one.values[i]]));
    document.querySelector(".pairs").replaceChildren(this.pairs());
    document.querySelector(".columns-of-features").replaceChildren(...this.features.map((one) => this.column(one)));
    document.querySelector(".labels-of-features").replaceChildren(this.labels());
  },

  pairs() {
    const rows = [];
    for (const [place, a] of this.features.entries()) {
      for (const b of this.features.slice(place + 1)) {
        rows.push(this.row(`${a.name} (${a.feature}) and ${b.name} (${b.feature})`, Medsae.number(this.cosine(a, b)), this.shared(a, b)));
      }
    }
    return this.table(["Pair", "Cosine of decoders", "Images with both, of those with either"], rows);
  },

  cosine(a, b) {
    const [x, y] = [a, b].map((one) => Int8Array.from(atob(one.decoder), (c) => c.charCodeAt(0)));
    let [dot, xx, yy] = [0, 0, 0];
    for (let i = 0; i < x.length; i += 1) { dot += x[i] * y[i]; xx += x[i] * x[i]; yy += y[i] * y[i]; }
    return dot / Math.sqrt(xx * yy);
  },

  // Known where all images of both are; otherwise only among the strongest that are stored.
  shared(a, b) {
    const both = a.images.filter((image) => b.value.has(image)).length;
    const whole = [a, b].every((one) => one.images.length === one.active);
    if (!a.images.length || !b.images.length) return "–";
    if (!whole) return `${both} among the strongest ${a.images.length} and ${b.images.length}`;
    return `${both} of ${a.active + b.active - both}, ${Medsae.number(both / (a.active + b.active - both))}`;
  },

  column(one) {
    const others = this.features.filter((other) => other !== one);
    const head = Medsae.make("h2", {}, Medsae.make("a", { href: `feature/${one.feature}.html` }, one.name), ` ${one.feature}`);
    const images = Medsae.make("div", { class: "images" });
    for (const image of one.top) {
      const alone = others.every((other) => other.images.length === other.active && !other.value.has(image));
      const said = `${Medsae.number(one.value.get(image))}${alone ? ", only here" : ""}`;
      const shot = Medsae.make("button", { type: "button", class: "shot", "data-do": "pickImage", "data-image": image, "aria-pressed": "false" },
        Medsae.make("img", { src: `thumb/${image}.jpg`, alt: `image ${image}`, loading: "lazy" }), said);
      images.append(shot);
    }
    const picked = Medsae.make("p", { class: "aside", "data-picked": one.feature }, "");
    return Medsae.make("section", {}, head, this.histogram(one), picked, images);
  },

  histogram(one) {
    const tallest = Math.max(1, ...this.features.flatMap((other) => other.histogram));
    const bars = one.histogram.map((count, bin) =>
      Medsae.svg("rect", { class: "bar", x: 8 + bin * 8.9, width: 7.9, y: 86 - (count / tallest) * 80, height: (count / tallest) * 80 }));
    const marks = ["2⁻¹²", "2⁻⁸", "2⁻⁴", "1", "2⁴"].map((said, place) =>
      Medsae.svg("text", { class: "tick mid", x: 8 + place * 71.2, y: 100 }, said));
    return Medsae.svg("svg", { class: "histogram", viewBox: "0 0 300 104", role: "img", "aria-label": `Activations of feature ${one.feature}, at most ${tallest} images a bar` }, ...bars, ...marks);
  },

  labels() {
    const rows = window.medsaeRun.labels.map((label, at) => this.row(label, ...this.features.map((one) => Medsae.number(one.r[at], 2, true))));
    return rows.length ? this.table(["Correlation with", ...this.features.map((one) => `${one.name} (${one.feature})`)], rows) : document.createTextNode("");
  },

  row(head, ...cells) {
    return Medsae.make("tr", {}, Medsae.make("th", { scope: "row" }, head), ...cells.map((cell) => Medsae.make("td", { class: "n" }, cell)));
  },

  table(heads, rows) {
    const cells = heads.map((head, at) => Medsae.make("th", at ? { class: "n" } : {}, head));
    return Medsae.make("table", {}, Medsae.make("thead", {}, Medsae.make("tr", {}, ...cells)), Medsae.make("tbody", {}, ...rows));
  },
};

// A chosen image is marked in every column, with each feature's activation on it.
Medsae.actions.pickImage = (button) => {
  const image = Number(button.dataset.image);
  for (const shot of document.querySelectorAll(".shot")) {
    const same = Number(shot.dataset.image) === image;
    shot.classList.toggle("picked-image", same);
    shot.setAttribute("aria-pressed", same);
  }
  for (const one of Medsae.compare.features) {
    const value = one.value.get(image);
    const none = one.images.length === one.active ? "inactive" : "not among the strongest";
    document.querySelector(`[data-picked="${one.feature}"]`).textContent = `image ${image}: ${value === undefined ? none : Medsae.number(value)}`;
  }
};
Medsae.actions.take = (button) => Medsae.compare.take(Number(button.dataset.feature));
Medsae.keys.c = () => {
  const tile = document.activeElement.closest(".tile") ?? document.querySelector('[data-do="take"]');
  if (tile) Medsae.compare.take(Number(tile.dataset.feature));
};

document.addEventListener("DOMContentLoaded", () => {
  Medsae.compare.link();
  if (document.body.dataset.page !== "compare") return;
  Medsae.compare.start();
  addEventListener("hashchange", () => Medsae.compare.start());
  document.querySelector("form.pick").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `f=${event.target.f.value.split(/[ ,]+/).filter(Boolean).join(",")}`;
  });
});
