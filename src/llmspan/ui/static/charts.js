// Charts of the numbers that /series.json has. A drag over a chart of calls chooses that time in the filter.
// The same numbers are in a table or in JSON for whoever does not see a canvas.
"use strict";

(() => {
  const HEIGHT = 150;
  const COLOURS = {
    ok: "--ok", error: "--error", incomplete: "--odd", cancelled: "--warn", closed_early: "--written",
    input: "--fresh", cached: "--cached", output: "--output", reasoning: "--reasoning",
    p50: "--output", p95: "--fresh", p99: "--reasoning",
  };
  const LENGTHS = { hour: 3600, day: 86400, week: 7 * 86400 };
  let drawn = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Bars that stand on each other: each is drawn up to the sum of those below and itself, the highest first.
  function stacked(values) {
    const names = Object.keys(values).filter((name) => values[name].some(Boolean));
    const sums = {};
    let below = null;
    for (const name of names) {
      below = values[name].map((value, index) => (value ?? 0) + (below ? below[index] : 0));
      sums[name] = below;
    }
    return [...names].reverse().map((name) => ({ name, values: sums[name], own: values[name] }));
  }

  function lines(values) {
    return Object.keys(values).map((name) => ({ name, values: values[name], own: values[name] }));
  }

  function chooseTime(plot, length) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const since = new Date(1000 * plot.posToVal(left, "x")).toISOString();
    const until = new Date(1000 * (plot.posToVal(left + width, "x") + (length === 3600 ? 0 : 1))).toISOString();
    const address = new URL(location.href);
    const query = (address.searchParams.get("q") ?? "").replace(/(^|\s)(since|until):\S+/g, "").trim();
    address.searchParams.set("q", `${query} since:${since} until:${until}`.trim());
    address.searchParams.delete("cursor");
    location.assign(address);
  }

  function draw(element, series, times, length, isStack) {
    // uPlot's own range of a single bar is years
    const bars = uPlot.paths.bars({ size: [0.8, 60], align: 1 });
    const plot = new uPlot(
      {
        width: element.clientWidth, height: HEIGHT, legend: { live: false },
        cursor: { drag: { x: true, y: false, setScale: false } },
        scales: { x: { range: () => [times[0], times.at(-1) + length] }, y: { range: (_, __, high) => [0, high || 1] } },
        axes: [
          { stroke: colour("--quiet"), grid: { show: false }, ticks: { show: false } },
          { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, size: 56 },
        ],
        series: [
          {},
          ...series.map(({ name }) => ({
            label: name.replace("_", " "),
            stroke: colour(COLOURS[name]),
            ...(isStack ? { fill: colour(COLOURS[name]), paths: bars, points: { show: false } } : { width: 2, spanGaps: true }),
          })),
        ],
        hooks: { setSelect: [(self) => chooseTime(self, length)] },
      },
      [times, ...series.map((one) => one.values)],
      element,
    );
    drawn.push(plot);
  }

  globalThis.drawCharts = async (root) => {
    const place = root.querySelector("[data-series]");
    if (place?.dataset.asked) return; // another part of the page was replaced
    drawn.forEach((plot) => plot.destroy());
    drawn = [];
    if (!place) return;
    place.dataset.asked = "1";
    const response = await fetch(place.dataset.series);
    if (!response.ok || !place.isConnected) return;
    const data = await response.json();
    for (const element of place.querySelectorAll("[data-chart]")) {
      const kind = element.dataset.chart;
      const isStack = kind === "status";
      const series = isStack ? stacked(data[kind]) : lines(data[kind]);
      if (data.times.length && series.length) draw(element, series, data.times, LENGTHS[data.period], isStack);
      element.dataset.ready = String(data.times.length);
    }
  };
})();
