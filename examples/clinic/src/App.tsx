import { lazy, Suspense, useEffect } from "react";
import { ChartSkeleton } from "./chart/ChartSkeleton.tsx";
import { ConnectionNotice } from "./freshness/ConnectionNotice.tsx";
import { FreshnessBadge } from "./freshness/FreshnessBadge.tsx";
import { keepLoading } from "./lib/keepLoading.ts";
import { Link, useRoute } from "./lib/router.tsx";
import { PatientList } from "./patients/PatientList.tsx";

const Chart = lazy(() => keepLoading(() => import("./chart/Chart.tsx")));

/** The frame of the two screens. The list of patients stays mounted, so that it keeps its place and its search. */
export function App() {
  const route = useRoute();
  const patientId = route.screen === "chart" ? route.patientId : undefined;

  // The title stays free of names: it ends up in the browser's history.
  useEffect(() => {
    document.title = route.screen === "chart" ? "Chart · Bonfire Clinic" : "Patients · Bonfire Clinic";
  }, [route.screen]);

  return (
    <div className="app">
      <header className="topbar">
        <a className="skip-link" href="#content">
          Skip to the content
        </a>
        <Link to={{ screen: "patients" }} className="brand">
          <img src="/mark.svg" alt="" width={26} height={26} />
          Bonfire Clinic
        </Link>
        <FreshnessBadge />
      </header>
      <ConnectionNotice />
      <div className="panes" data-screen={route.screen}>
        <PatientList currentId={patientId} />
        {patientId !== undefined && (
          <Suspense fallback={<ChartSkeleton />}>
            <Chart key={patientId} patientId={patientId} />
          </Suspense>
        )}
      </div>
    </div>
  );
}
