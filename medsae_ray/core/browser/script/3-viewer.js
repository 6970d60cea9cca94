// An image's own page: window and level by a colour matrix, which needs no look at the pixels, so it works in a folder.
Medsae.viewer = {
  presets: { 1: [-600, 1500], 2: [40, 400], 3: [480, 2500], 4: [40, 80] },

  start(box) {
    this.box = box;
    this.form = document.querySelector("form.window");
    this.picture = box.querySelector(".picture");
    this.deep = "shade" in box.dataset;
    const { low = 0, high = 255, least = 0, most = 255, centre = 127.5, width = 255 } = box.dataset;
    [this.low, this.high, this.least, this.most] = [low, high, least, most].map(Number);
    this.own = { centre: Number(centre), width: Number(width), inverted: "inverted" in box.dataset };
    if (this.deep) {
      this.picture.src = box.dataset.shade;
      this.picture.classList.add("deep");
    }
    this.matrix = Medsae.svg("feColorMatrix", { type: "matrix" });
    const filter = Medsae.svg("filter", { id: "window", "color-interpolation-filters": "sRGB" }, this.matrix);
    document.body.append(Medsae.svg("svg", { width: 0, height: 0, "aria-hidden": "true" }, filter));
    this.picture.style.filter = "url(#window)";
    this.form.addEventListener("input", () => this.slid());
    this.form.addEventListener("reset", () => setTimeout(() => this.reset()));
    this.drag();
    this.reset();
  },

  reset() {
    Object.assign(this, this.own, { zoom: 1, x: 0, y: 0, across: 1, down: 1, turn: 0 });
    this.draw();
    this.show();
  },

  slid() {
    const span = this.most - this.least;
    this.centre = this.least + (Number(this.form.level.value) / 1000) * span;
    this.width = (Number(this.form.width.value) / 1000) * span || 1e-9;
    for (const heat of this.box.querySelectorAll(".heat")) {
      heat.hidden = heat.dataset.feature !== this.form.heat.value;
      heat.style.opacity = Number(this.form.opacity.value) / 100;
    }
    this.draw();
  },

  // out = (value - (centre - width / 2)) / width. Of 16 bits red is the high byte and green the low one.
  draw() {
    const sign = this.inverted ? -1 : 1;
    const scale = (this.high - this.low) / this.width;
    const [red, green] = this.deep ? [(65280 / 65535) * scale, (255 / 65535) * scale] : [scale, 0];
    const shift = (this.low - this.centre) / this.width + 0.5;
    const row = `${sign * red} ${sign * green} 0 0 ${this.inverted ? 1 - shift : shift}`;
    this.matrix.setAttribute("values", `${row} ${row} ${row} 0 0 0 1 0`);
    const turned = `translate(${this.x}px, ${this.y}px) scale(${this.zoom}) rotate(${this.turn}deg) scale(${this.across}, ${this.down})`;
    for (const image of this.box.querySelectorAll("img")) image.style.transform = turned;
    this.form["level-value"].value = Medsae.number(this.centre, 0);
    this.form["width-value"].value = Medsae.number(this.width, 0);
  },

  show() {
    const span = this.most - this.least || 1;
    this.form.level.value = ((this.centre - this.least) / span) * 1000;
    this.form.width.value = (this.width / span) * 1000;
  },

  change(what) {
    Object.assign(this, what);
    this.draw();
    this.show();
  },

  preset(key) {
    if (this.deep) this.change({ centre: this.presets[key][0], width: this.presets[key][1] });
  },

  drag() {
    this.box.addEventListener("pointerdown", (event) => {
      this.box.setPointerCapture(event.pointerId);
      this.from = [event.clientX - this.x, event.clientY - this.y];
    });
    this.box.addEventListener("pointermove", (event) => {
      if (this.from) this.change({ x: event.clientX - this.from[0], y: event.clientY - this.from[1] });
    });
    this.box.addEventListener("pointerup", () => { this.from = null; });
  },
};

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector(".light-box");
  if (!box) return;
  const viewer = Medsae.viewer;
  viewer.start(box);
  Object.assign(Medsae.keys, {
    i: () => viewer.change({ inverted: !viewer.inverted }),
    h: () => viewer.change({ across: -viewer.across }),
    v: () => viewer.change({ down: -viewer.down }),
    r: () => viewer.change({ turn: viewer.turn + 90 }),
    l: () => viewer.change({ turn: viewer.turn - 90 }),
    "+": () => viewer.change({ zoom: Math.min(16, viewer.zoom * 1.25) }),
    "-": () => viewer.change({ zoom: Math.max(0.25, viewer.zoom / 1.25) }),
    "=": () => viewer.change({ zoom: 1, x: 0, y: 0 }),
    " ": () => viewer.form.reset(),
  });
  for (const key of Object.keys(viewer.presets)) Medsae.keys[key] = () => viewer.preset(key);
  Medsae.actions.invert = Medsae.keys.i;
});
