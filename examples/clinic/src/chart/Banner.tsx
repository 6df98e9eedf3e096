import type { Patient } from "../api.ts";
import { formatDate } from "../lib/dates.ts";
import { Link } from "../lib/router.tsx";
import { useNow } from "../lib/useNow.ts";
import { ageOf, bornOf, chartName, sexOf } from "../patients/person.ts";
import { Icon } from "../ui/Icon.tsx";

/** Who this is. It never scrolls away: no act on a chart without the name in sight. */
export function Banner({ patient }: { patient: Patient }) {
  const now = useNow();
  return (
    <header className="banner" data-testid="banner">
      <Link to={{ screen: "patients" }} className="banner-back only-narrow" aria-label="All patients">
        <Icon name="back" size={22} />
      </Link>
      <div className="banner-who">
        <h1 data-testid="patient-name">{chartName(patient)}</h1>
        <dl className="banner-facts">
          <Fact name={patient.deceased ? "Status" : "Age"} value={ageOf(patient, now)} />
          <Fact name="Born" value={bornOf(patient)} />
          <Fact name="Sex" value={sexOf(patient)} />
          <Fact name="MRN" value={patient.identifier ?? ""} />
          <Fact name="Died" value={patient.deceasedAt === null ? "" : formatDate(patient.deceasedAt)} />
        </dl>
      </div>
    </header>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  if (value === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
