export { BonfireProvider, type BonfireProviderProps, useClient } from "./provider.tsx";
export { type ClinicalMutation, type MutationProgress, useClinicalMutation } from "./useClinicalMutation.ts";
export { type ClinicalQuery, type Skipped, skip, useClinicalQuery } from "./useClinicalQuery.ts";
export { useConnection } from "./useConnection.ts";
export { useFreshness } from "./useFreshness.ts";
