import { type FormEvent, type ReactNode, useEffect, useId, useRef } from "react";

interface DialogProps {
  title: string;
  /** Whom or what this is about: a dialog that writes names the patient, so that nobody writes to the wrong one. */
  about?: ReactNode;
  action: string;
  danger?: boolean;
  busy: boolean;
  problem?: string | undefined;
  onSubmit: () => void;
  onClose: () => void;
  children: ReactNode;
}

/** A modal form. The browser's own dialog keeps the focus inside, closes on Escape and gives the focus back. */
export function Dialog({ title, about, action, danger, busy, problem, onSubmit, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (!busy) onSubmit();
  };
  return (
    <dialog ref={dialog} className="dialog" aria-labelledby={heading} onClose={onClose}>
      <form onSubmit={submit}>
        <header>
          <h2 id={heading}>{title}</h2>
          {about && <p className="dialog-about">{about}</p>}
        </header>
        {children}
        {problem && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className={`button ${danger ? "button-danger" : "button-primary"}`} disabled={busy}>
            {action}
          </button>
        </div>
      </form>
    </dialog>
  );
}
