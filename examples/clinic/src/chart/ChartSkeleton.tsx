import "./chart.css";

/** The chart's own outline while it loads, so that nothing jumps when it is there. */
export function ChartSkeleton() {
  return (
    <main className="stage chart" id="content" aria-busy="true" aria-label="Loading chart">
      <div className="banner">
        <div className="banner-who">
          <span className="skeleton" style={{ width: "13rem", height: "1.375rem" }} />
          <span className="skeleton" style={{ width: "20rem", maxWidth: "70%" }} />
        </div>
      </div>
    </main>
  );
}
