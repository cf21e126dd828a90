/* charts.mjs: two charts of uPlot, in the page's own colours, which follow the system's light or dark. */
import uPlot from "/uplot.mjs";

const HEIGHT = 190;
export const SPAN = 900; // seconds
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function series({ label, colour: name, fill, unit }) {
  return {
    label,
    stroke: colour(name),
    width: fill ? 1.25 : 1.5,
    fill: fill ? colour(`${name}-fill`) : undefined,
    points: { show: false },
    spanGaps: false,
    value: (_, value) => unit(value),
  };
}

function options(width, lines, axis) {
  const ink = colour("muted");
  const grid = { stroke: colour("line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  const plain = { stroke: ink, font, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, axis.least)] } },
    axes: [
      { ...plain, grid: { show: false }, space: 70, values: [[60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"]] },
      { ...plain, grid, size: 64, values: (_, values) => values.map((value) => axis.unit(value)) },
    ],
    series: [{ value: "{HH}:{mm}:{ss}" }, ...lines.map(series)],
  };
}

export class Chart {
  constructor(place, lines, axis) {
    Object.assign(this, { place, lines, axis, data: [[], ...lines.map(() => [])] });
    dark.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.plot?.setSize({ width: this.place.clientWidth, height: HEIGHT })).observe(place);
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    this.plot = new uPlot(options(this.place.clientWidth, this.lines, this.axis), this.data, this.place);
    this.update(this.data);
  }

  // Without a pointer on it, the legend tells the newest sample.
  update(data) {
    this.data = data;
    const last = data[0].length - 1;
    this.plot.batch(() => {
      this.plot.setData(data, true);
      if (last >= 0) {
        const end = data[0][last];
        this.plot.setScale("x", { min: Math.max(data[0][0], end - SPAN) - (last ? 0 : 1), max: end });
      }
    });
    if (last >= 0 && this.plot.cursor.idx == null) this.plot.setLegend({ idx: last });
  }
}
