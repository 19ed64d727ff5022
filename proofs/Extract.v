(* The checker as an OCaml program; driver.ml reads the text and prints the verdict. *)
Require Import Extraction ExtrOcamlBasic Checker.
Extraction Language OCaml.
Extraction "build/checked.ml" check.
