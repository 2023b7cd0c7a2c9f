// The lines in which two texts differ.

/**
 * @typedef {{is: "same" | "old" | "new", text: string, before: number | null, after: number | null}} Line
 */

/** The largest number of lines that are compared with each other; above, all of them differ. */
const MOST = 3000;

/** Compares two texts by lines. @param {string} before @param {string} after @returns {Line[]} */
export function diff(before, after) {
  const [old, fresh] = [before.split("\n"), after.split("\n")];
  let head = 0;
  while (head < old.length && head < fresh.length && old[head] === fresh[head]) head += 1;
  let tail = 0;
  while (tail < old.length - head && tail < fresh.length - head && old[old.length - 1 - tail] === fresh[fresh.length - 1 - tail]) tail += 1;
  const [rows, columns] = [old.length - head - tail, fresh.length - head - tail];
  /** @type {Line[]} */
  const lines = [];
  const same = (/** @type {number} */ from, /** @type {number} */ to, /** @type {number} */ by) => {
    for (let at = from; at < to; at += 1) lines.push({ is: "same", text: old[at], before: at + 1, after: at + 1 + by });
  };
  same(0, head, 0);
  // The length of the longest common part of what is left of both, for each pair of places.
  const wide = columns + 1;
  const common = rows <= MOST && columns <= MOST ? new Uint16Array((rows + 1) * wide) : null;
  if (common) {
    for (let row = rows - 1; row >= 0; row -= 1) {
      for (let column = columns - 1; column >= 0; column -= 1) {
        common[row * wide + column] = old[head + row] === fresh[head + column]
          ? common[(row + 1) * wide + column + 1] + 1
          : Math.max(common[(row + 1) * wide + column], common[row * wide + column + 1]);
      }
    }
  }
  let [row, column] = [0, 0];
  while (row < rows || column < columns) {
    const equal = common && row < rows && column < columns && old[head + row] === fresh[head + column];
    if (equal) {
      same(head + row, head + row + 1, column - row);
      row += 1;
      column += 1;
    } else if (row < rows && (!common || column >= columns || common[(row + 1) * wide + column] >= common[row * wide + column + 1])) {
      lines.push({ is: "old", text: old[head + row], before: head + row + 1, after: null });
      row += 1;
    } else {
      lines.push({ is: "new", text: fresh[head + column], before: null, after: head + column + 1 });
      column += 1;
    }
  }
  same(old.length - tail, old.length, fresh.length - old.length);
  return lines;
}
