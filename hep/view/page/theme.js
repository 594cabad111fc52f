// Not a module, so that it runs before anything is drawn: a page must not flash in the other theme.
(() => {
  let kept = null;
  try { kept = window.localStorage.getItem('hep-view-theme'); } catch { /* storage is off */ }
  if (kept === 'light' || kept === 'dark') document.documentElement.dataset.theme = kept;
})();
