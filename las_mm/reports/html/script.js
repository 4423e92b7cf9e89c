'use strict';

// Sort a table by a column: numbers by value, the rest as text.
function sortBy(header) {
  const table = header.closest('table');
  const column = [...header.parentNode.children].indexOf(header);
  const down = header.getAttribute('aria-sort') === 'ascending';
  for (const other of header.parentNode.children) other.removeAttribute('aria-sort');
  header.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const key = (row) => {
    const cell = row.children[column];
    return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
  body.append(...rows);
}

for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => sortBy(button.closest('th')));
}

// Dark or light: the system's choice, until the reader makes another.
const root = document.documentElement;
const toggle = document.getElementById('theme');
const isDark = () =>
  root.dataset.theme
    ? root.dataset.theme === 'dark'
    : window.matchMedia('(prefers-color-scheme: dark)').matches;
function name() {
  toggle.textContent = isDark() ? 'Light' : 'Dark';
  toggle.setAttribute('aria-label', `Switch to ${isDark() ? 'light' : 'dark'} colours`);
}
toggle.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  name();
});
toggle.hidden = false;
name();
