// A little comfort; every screen works without it.
(() => {
  const boxes = () => [...document.querySelectorAll('#rows input[type=checkbox][name=id]')];
  const all = document.querySelector('[data-all]');
  const count = document.querySelector('[data-count]');
  const show = () => {
    const ticked = boxes().filter((box) => box.checked).length;
    if (count) count.textContent = ticked ? `${ticked} selected` : '';
    if (all) {
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && !all.checked;
    }
    for (const box of boxes()) box.closest('.card').classList.toggle('selected', box.checked);
  };
  if (all) all.addEventListener('change', () => { for (const box of boxes()) box.checked = all.checked; show(); });
  for (const box of boxes()) box.addEventListener('change', show);
  if (all) show();

  // On a phone the menu is wider than the screen.
  const current = document.querySelector('.top nav [aria-current]');
  const reach = () => { if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 24; };
  reach();
  window.addEventListener('resize', reach);

  // A choice filters at once; the button stays for the keyboard and for text.
  for (const select of document.querySelectorAll('.filters select')) select.addEventListener('change', () => select.form.requestSubmit());

  // One click is one decision.
  for (const form of document.querySelectorAll('form[method=post]')) {
    form.addEventListener('submit', (event) => {
      if (form.dataset.sent) { event.preventDefault(); return; }
      form.dataset.sent = '1';
    });
  }
  window.addEventListener('pageshow', () => { for (const form of document.forms) delete form.dataset.sent; });

  // j and k go through the cards, x ticks one.
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== 'checkbox') return;
    const cards = [...document.querySelectorAll('#rows > .card')];
    if (!cards.length) return;
    const here = cards.findIndex((card) => card.contains(document.activeElement));
    if (event.key === 'j' || event.key === 'k') {
      const next = cards[Math.min(Math.max(here + (event.key === 'j' ? 1 : -1), 0), cards.length - 1)];
      (next.querySelector('h2 a, .record, input') || next).focus();
      next.scrollIntoView({ block: 'nearest' });
      event.preventDefault();
    } else if (event.key === 'x' && here >= 0) {
      const box = cards[here].querySelector('input[name=id]');
      if (box) { box.checked = !box.checked; show(); }
    }
  });
})();
