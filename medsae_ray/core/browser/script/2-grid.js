// The grid: sorts and filters all features in memory, and keeps what was chosen in the address.
Medsae.grid = {
  page: 60,
  fields: ["q", "verdict", "label", "source", "dataset", "sort"],

  start() {
    this.all = window.medsaeFeatures;
    this.list = document.querySelector("ol.tiles");
    this.form = document.querySelector("form.filters");
    this.found = document.querySelector(".found");
    this.more = document.querySelector(".more");
    const count = this.all.feature.length;
    this.every = Array.from({ length: count }, (_, place) => place);
    this.words = this.every.map((i) =>
      `${this.all.feature[i]} ${this.all.name[i]} ${this.all.label[i]} ${this.all.text[i]}`.toLowerCase());
    this.first = (Number(this.list.dataset.first) - 1) * this.page;
    this.end = Math.min(count, this.first + this.page);
    this.shown = this.every;
    this.form.addEventListener("input", () => this.chosen());
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.focus(0); });
    this.form.addEventListener("reset", () => setTimeout(() => this.chosen()));
    addEventListener("hashchange", () => this.restore());
    document.querySelector("nav.pages")?.remove();
    this.restore();
  },

  // The address says what is chosen; a page without a choice stays as it was sent.
  restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (state.toString() === this.written) return;
    for (const name of this.fields) if (this.form[name]) this.form[name].value = state.get(name) ?? (name === "sort" ? "strength" : "");
    if (state.size) this.chosen(false); else this.tell();
  },

  chosen(write = true) {
    const state = new URLSearchParams();
    for (const name of this.fields) {
      const value = this.form[name]?.value.trim();
      if (value && !(name === "sort" && value === "strength")) state.set(name, value);
    }
    this.written = state.toString();
    if (write) history.replaceState(null, "", `#${this.written}`);
    this.shown = this.sorted(this.every.filter(this.fits(state)), state.get("sort"));
    this.first = 0;
    this.end = 0;
    this.list.replaceChildren();
    this.add();
    this.tell();
  },

  fits(state) {
    const words = (state.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const { verdict, label, source, datasets } = this.all;
    const want = (name, values) => (state.has(name) ? (i) => values[i] === state.get(name) : () => true);
    const tests = [want("verdict", verdict), want("label", label), want("source", source)];
    if (state.has("dataset")) tests.push((i) => datasets[i].includes(state.get("dataset")));
    return (i) => tests.every((test) => test(i)) && words.every((word) => this.words[i].includes(word));
  },

  sorted(places, by) {
    if (!by) return places;
    const values = this.all[by];
    const missing = (value) => value === null || value === "";
    const rising = ["feature", "name", "entropy"].includes(by) ? 1 : -1;
    return places.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * rising || a - b;
    });
  },

  add() {
    const end = Math.min(this.shown.length, this.end + this.page);
    this.list.append(...this.shown.slice(this.end, end).map((i) => this.tile(i)));
    this.end = end;
    this.tell();
  },

  tell() {
    this.found.textContent = `${this.shown.length.toLocaleString("en")} of ${this.all.feature.length.toLocaleString("en")} features`;
    this.more.hidden = this.end >= this.shown.length;
  },

  tile(i) {
    const tile = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    const { feature, name, verdict, thumbs } = this.all;
    const part = (kind) => tile.querySelector(`[data-fill="${kind}"]`);
    tile.dataset.feature = feature[i];
    tile.querySelector("a").href = `feature/${feature[i]}.html`;
    tile.querySelector(".thumbs").append(...thumbs[i].map((number) =>
      Medsae.make("img", { src: `thumb/${number}.jpg`, alt: "", loading: "lazy", width: 128, height: 128 })));
    part("name").textContent = name[i] || "Unnamed";
    part("verdict").textContent = window.medsaeRun.verdicts[verdict[i]] ?? "not tested";
    if (verdict[i]) part("verdict").classList.add(verdict[i]);
    part("number").textContent = `feature ${feature[i]}`;
    part("facts").textContent = this.facts(i);
    return tile;
  },

  facts(i) {
    const { label, r, detection, frequency } = this.all;
    return [
      label[i] && `${label[i]} r ${Medsae.number(r[i], 2, true)}`,
      detection[i] !== null && `detection ${Medsae.number(detection[i])}`,
      `active on ${Medsae.number(100 * frequency[i], 1)}\u00a0%`,
    ].filter(Boolean).join(" · ");
  },

  focus(step) {
    const links = [...this.list.querySelectorAll(".tile > a")];
    const at = links.indexOf(document.activeElement);
    if (step > 0 && at === links.length - 1 && !this.more.hidden) { this.add(); return this.focus(step); }
    links[at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
  },

  // The view as CSV. A text that a spreadsheet would compute is quoted by an apostrophe.
  csv() {
    const columns = ["feature", "name", "verdict", "source", "label", "r", "auroc", "detection", "frequency", "entropy"];
    const cell = (value) => {
      const text = value === null ? "" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const rows = this.shown.map((i) => columns.map((name) => cell(this.all[name][i])).join(","));
    const head = [window.medsaeRun.notice, ...window.medsaeRun.citation].map((line) => `# ${line}`);
    return [...head, columns.join(","), ...rows].join("\n") + "\n";
  },
};

Medsae.actions.more = () => Medsae.grid.add();
Medsae.actions.csv = () => Medsae.save("features.csv", "text/csv", Medsae.grid.csv());

document.addEventListener("DOMContentLoaded", () => {
  if (document.body.dataset.page !== "grid") return;
  Medsae.keys.j = () => Medsae.grid.focus(1);
  Medsae.keys.k = () => Medsae.grid.focus(-1);
  Medsae.keys["/"] = () => Medsae.grid.form.q.focus();
  Medsae.grid.start();
});
