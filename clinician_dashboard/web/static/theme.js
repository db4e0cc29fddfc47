// Sets light or dark before the page is drawn, so that it does not flash. Runs first, and not as a module.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try { return localStorage.getItem("hemolink.theme"); } catch { return null; }
  };
  const apply = () => { document.documentElement.dataset.theme = kept() ?? (dark.matches ? "dark" : "light"); };
  apply();
  dark.addEventListener("change", apply);
})();
