-- The table of a hand-made server: notes of a patient.
create table note (
    stamp text not null,
    id text primary key,
    patient text not null,
    number integer not null,
    text text not null
);
create index note_by_patient on note (patient, number desc);
