// Filters, deep links and printing. Without this script every view is still there, unfiltered.
"use strict";
(() => {
  const form = document.getElementById("filters");
  const output = form.querySelector("output");
  const reset = form.querySelector("button[type=reset]");
  const marked = [...document.querySelectorAll("[data-verdicts], [data-kernel], [data-events]")];
  const panels = [...document.querySelectorAll("[data-panel]")];
  const links = [...document.querySelectorAll(".chips > a, a.tile")];
  const NAMES = { verdict: "verdicts", kernel: "kernel", event: "events" };

  const chosen = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value);

  // A filter ignores elements without its attribute.
  const fits = (element, wanted) =>
    Object.entries(NAMES).every(([name, attribute]) => {
      const words = element.dataset[attribute];
      return words === undefined || !wanted[name].length || words.split(" ").some((word) => wanted[name].includes(word));
    });

  const panelOf = (hash) => {
    const target = hash && document.getElementById(hash.slice(1));
    return target && target.closest("details");
  };

  function apply() {
    const wanted = { verdict: chosen("verdict"), kernel: chosen("kernel"), event: chosen("event") };
    for (const element of marked) element.hidden = !fits(element, wanted);
    // A link to a cell fits if its panel does.
    for (const link of links) {
      const out = panelOf(link.hash).hidden;
      if (link.matches(".tile")) link.classList.toggle("dim", out);
      else link.hidden = out;
    }
    for (const name of Object.keys(NAMES)) {
      document.querySelector(`#pick-${name} .picked`).textContent = wanted[name].length || "";
    }
    const shown = panels.filter((panel) => !panel.hidden).length;
    const any = Object.values(wanted).some((list) => list.length);
    output.textContent = `${shown} of ${panels.length} cells`;
    reset.hidden = !any;
    document.querySelector("#cells .empty").hidden = shown > 0;
    return wanted;
  }

  // The filters are part of the address, so that a filtered view can be shared.
  function remember(wanted) {
    const parts = Object.entries(wanted).filter(([, list]) => list.length);
    const address = parts.map(([name, list]) => `${name}=${list.map(encodeURIComponent).join(",")}`).join("&");
    history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
  }

  function recall(address) {
    const given = new Map(address.split("&").map((part) => part.split("=")));
    for (const box of form.querySelectorAll("input")) {
      box.checked = (given.get(box.name) || "").split(",").map(decodeURIComponent).includes(box.value);
    }
    apply();
  }

  function follow() {
    const address = location.hash.slice(1);
    if (address.includes("=")) return recall(address);
    const panel = panelOf(location.hash);
    if (!panel) return undefined;
    if (panel.hidden) { form.reset(); apply(); }
    panel.open = true;
    panel.scrollIntoView({ block: "start" });
    panel.querySelector("summary").focus({ preventScroll: true });
    return undefined;
  }

  form.addEventListener("change", () => remember(apply()));
  form.addEventListener("reset", () => setTimeout(() => remember(apply())));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    for (const picker of document.querySelectorAll(".picker[open]")) {
      if (!picker.contains(event.target)) picker.open = false;
    }
    const link = event.target.closest("a[href^='#cell-']");
    if (link && link.hash === location.hash) follow();
  });
  document.addEventListener("keydown", (event) => {
    const picker = event.key === "Escape" && event.target.closest(".picker[open]");
    if (picker) { picker.open = false; picker.querySelector("summary").focus(); }
  });
  addEventListener("hashchange", follow);

  // A console opens at the line that decided the verdict.
  document.addEventListener("toggle", (event) => {
    if (!event.target.open || !event.target.matches("[data-panel]")) return;
    const lines = event.target.querySelector(".console");
    const line = lines && (lines.querySelector(".decided") || lines.querySelector(".notable"));
    if (line) lines.scrollTop = line.offsetTop - lines.clientHeight / 2;
  }, true);

  const openAll = document.getElementById("open-all");
  const closeAll = document.getElementById("close-all");
  const setAll = (open) => panels.filter((panel) => !panel.hidden).forEach((panel) => { panel.open = open; });
  openAll.addEventListener("click", () => setAll(true));
  closeAll.addEventListener("click", () => setAll(false));

  // Panels with unexpected verdicts are printed open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.bad:not([open])")];
    opened.forEach((panel) => { panel.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((panel) => { panel.open = false; }));

  for (const element of [form, openAll, closeAll]) element.hidden = false;
  apply();
  follow();
})();
