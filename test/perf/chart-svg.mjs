// Line charts as SVG text, without a library. Colours are chosen to be told apart by colour-blind people and
// to be read on a white and on a dark page; text and lines follow the page's scheme.

const PANEL = { width: 420, height: 260, left: 52, top: 58, gap: 72 };
const LEGEND = { width: 190, height: 20 };
const COLOURS = ["#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#e69f00"];
const ROOF_DASHES = "5 4";

const escapeText = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const round = (value) => Number(value.toFixed(1));

/** 1, 2 or 5 times a power of ten, about `count` steps up to `most`. */
export function niceStep(most, count) {
  const raw = most / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
}

/** Ticks of a value axis: powers of ten on a logarithmic one, even steps from 0 on another. */
export function valueTicks(values, isLogarithmic) {
  const most = Math.max(...values);
  if (isLogarithmic) {
    const first = Math.floor(Math.log10(Math.min(...values)));
    const last = Math.ceil(Math.log10(most));
    return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  }
  const step = niceStep(most, 5);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

/** Where a value lies between the first and last tick, 0 to 1. */
function positionOf(value, ticks, isLogarithmic) {
  const scale = isLogarithmic ? Math.log : (it) => it;
  const [low, high] = [scale(ticks[0]), scale(ticks.at(-1))];
  return (scale(value) - low) / (high - low);
}

const lengthLabel = (length) => (length >= 1024 ? `${length / 1024}k` : String(length));

function drawPanel({ title, series, isLogarithmic }, left, colourOf) {
  const { width, height, top } = PANEL;
  const all = series.flatMap(({ points }) => points);
  const lengths = [...new Set(all.map(({ length }) => length))].sort((a, b) => a - b);
  const ticks = valueTicks(
    all.map(({ value }) => value),
    isLogarithmic,
  );
  const spread = Math.log(lengths.at(-1) / lengths[0]) || 1;
  const x = (length) => round(left + (width * Math.log(length / lengths[0])) / spread);
  const y = (value) => round(top + height * (1 - positionOf(value, ticks, isLogarithmic)));
  const rows = ticks.map(
    (tick) =>
      `<line class="grid" x1="${left}" x2="${left + width}" y1="${y(tick)}" y2="${y(tick)}"/>` +
      `<text class="small" x="${left - 6}" y="${y(tick) + 4}" text-anchor="end">${Number(tick.toPrecision(3))}</text>`,
  );
  const columns = lengths.map(
    (length) =>
      `<text class="small" x="${x(length)}" y="${top + height + 16}" text-anchor="middle">${lengthLabel(length)}</text>`,
  );
  const lines = series.map(({ name, points }) => {
    const path = points.map(({ length, value }) => `${x(length)},${y(value)}`).join(" ");
    const isRoof = name === "roof";
    const style = isRoof
      ? `class="roof" stroke-dasharray="${ROOF_DASHES}"`
      : `stroke="${colourOf(name)}"`;
    const marks = isRoof
      ? ""
      : points
          .map(
            ({ length, value }) =>
              `<circle cx="${x(length)}" cy="${y(value)}" r="3" fill="${colourOf(name)}"><title>${escapeText(name)}, ${length} tokens: ${Number(value.toPrecision(3))}</title></circle>`,
          )
          .join("");
    return `<polyline fill="none" stroke-width="2" ${style} points="${path}"/>${marks}`;
  });
  const head = `<text x="${left}" y="${top - 12}" font-weight="600">${escapeText(title)}</text>`;
  const foot = `<text class="small" x="${left + width / 2}" y="${top + height + 32}" text-anchor="middle">tokens of prompt</text>`;
  return ["<g>", head, ...rows, ...columns, foot, ...lines, "</g>"].join("\n");
}

function drawLegend(names, colourOf, first, perRow) {
  return names
    .map((name, i) => {
      const left = PANEL.left + (i % perRow) * LEGEND.width;
      const top = first + Math.floor(i / perRow) * LEGEND.height;
      const style =
        name === "roof"
          ? `class="roof" stroke-dasharray="${ROOF_DASHES}"`
          : `stroke="${colourOf(name)}"`;
      return `<line stroke-width="2" ${style} x1="${left}" x2="${left + 24}" y1="${top}" y2="${top}"/><text x="${left + 30}" y="${top + 4}">${escapeText(name)}</text>`;
    })
    .join("\n");
}

/**
 * An SVG of panels side by side with one legend. A panel is `{title, series, isLogarithmic}`, a series `{name,
 * points: [{length, value}]}` with values above 0; lengths are on a logarithmic axis. The series `roof` is
 * drawn dashed in the colour of the text.
 */
export function drawChart({ title, panels }) {
  const all = new Set(panels.flatMap(({ series }) => series.map(({ name }) => name)));
  const coloured = [...all].filter((name) => name !== "roof");
  const names = all.has("roof") ? [...coloured, "roof"] : coloured;
  const colourOf = (name) => COLOURS[coloured.indexOf(name) % COLOURS.length];
  const { width, height, left, top, gap } = PANEL;
  const fullWidth = left + panels.length * (width + gap);
  const perRow = Math.floor((fullWidth - left) / LEGEND.width);
  const legendTop = top + height + 60;
  const fullHeight = legendTop + Math.ceil(names.length / perRow) * LEGEND.height;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${fullWidth} ${fullHeight}" width="${fullWidth}" height="${fullHeight}" font-family="system-ui, sans-serif" font-size="13" role="img">`,
    `<title>${escapeText(title)}</title>`,
    "<style>",
    "text { fill: #24292f } .small { font-size: 11px } .grid { stroke: #8c959f; stroke-opacity: 0.35 } .roof { stroke: #57606a }",
    "@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .roof { stroke: #9da7b3 } }",
    "</style>",
    `<text x="${left}" y="22" font-size="15" font-weight="600">${escapeText(title)}</text>`,
    ...panels.map((panel, i) => drawPanel(panel, left + i * (width + gap), colourOf)),
    drawLegend(names, colourOf, legendTop, perRow),
    "</svg>",
    "",
  ].join("\n");
}
