// What only a service can do: searches by meaning, and images of one's own. A folder's pages never ask for it.
Medsae.served = {
  async start() {
    if (location.protocol === "file:") return;
    try {
      const answer = await fetch(Medsae.at("v1/health/live"));
      if (!answer.ok || !(await answer.json()).live) return;
    } catch { return; }
    document.body.classList.add("is-served");
    this.link();
    document.dispatchEvent(new Event("medsae-served"));
    const section = document.querySelector("section.served");
    if (!section) return;
    section.hidden = false;
    this.said = section.querySelector(".answer");
    section.querySelector("form.ask").addEventListener("submit", (event) => { event.preventDefault(); this.ask(event.target.text.value); });
    section.querySelector("form.upload").addEventListener("submit", (event) => { event.preventDefault(); this.upload(event.target.image.files[0]); });
  },

  // The pages that only a service has.
  link() {
    const link = (path, text) => Medsae.make("a", { href: Medsae.at(path) }, text);
    document.querySelector("header nav").append(link("study", "Studies"), " ", link("drift", "Uploads"));
    const take = document.querySelector("nav.steps [data-feature]");
    if (take) take.after(" ", link(`judge/${take.dataset.feature}`, "Judge"));
  },

  async ask(text) {
    const found = await this.json(`v1/query?${new URLSearchParams({ text, features: 10, images: 0 })}`);
    if (found) this.show(`Features for “${text}”, by ${found.way === "names" ? "the words of names" : found.way}`, found.features.map((one) => [one, `score ${Medsae.number(one.score)}`]), found.refused);
  },

  async upload(file) {
    const type = ["image/png", "image/jpeg"].includes(file.type) ? file.type : "application/dicom";
    const found = await this.json("v1/encode?top=20&named=false", { method: "POST", body: file, headers: { "Content-Type": type } });
    if (!found) return;
    const rows = found.features.map((one) => [one, `activation ${Medsae.number(one.activation)}, percentile ${Medsae.number(one.percentile, 0)} of its own`]);
    const unlike = found.unlike_the_run;
    const warning = unlike?.flag ? `This image is unlike those of the run, farther than ${Medsae.number(unlike.percentile, 1)}\u00a0% of its held-out images: names say nothing of it.` : null;
    this.show("Features of your image", rows, warning);
  },

  async json(path, request) {
    this.said.textContent = "…";
    const answer = await fetch(Medsae.at(path), request);
    const found = await answer.json();
    if (answer.ok) return found;
    this.said.textContent = found.error?.message ?? `The service answers ${answer.status}.`;
    return null;
  },

  show(title, rows, warning) {
    const verdicts = window.medsaeRun.verdicts;
    const list = rows.map(([one, said]) => Medsae.make("li", {},
      Medsae.make("a", { href: `feature/${one.feature}.html` }, one.name || "Unnamed"),
      ` feature ${one.feature}, name ${verdicts[one.name_verdict] ?? "not tested"}: ${said}`));
    const note = "A verdict is about a feature's name over many patients, and not about this image. Not for clinical use.";
    const warned = warning ? [Medsae.make("p", { class: "warning" }, Medsae.make("b", {}, warning))] : [];
    this.said.replaceChildren(Medsae.make("p", {}, Medsae.make("b", {}, title)), ...warned,
      rows.length ? Medsae.make("ol", {}, ...list) : Medsae.make("p", {}, "None."), Medsae.make("p", {}, note));
  },
};

document.addEventListener("DOMContentLoaded", () => Medsae.served.start());
