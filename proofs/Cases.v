(* What follows for every input from what some nodes are: gates evaluated with what is known, case by case. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims.
Module Map := PositiveMap.
Open Scope Z_scope.

Definition assignment := Map.t bool.
Definition agrees (e : node -> bool) (m : assignment) : Prop := forall n b, Map.find n m = Some b -> e n = b.
Definition form := (Z * row)%type.  (* constant + sum of weight * node *)
Definition form_value (e : node -> bool) (f : form) : Z := fst f + weighted e (snd f).

(* the range of lo..hi + sum, where `know` says what a node is, if it can, and what it has learnt by the way *)
Fixpoint row_range (know : assignment -> node -> option bool * assignment) (r : row) (m : assignment) (lo hi : Z) : Z * Z * assignment :=
  match r with
  | [] => (lo, hi, m)
  | (n, w) :: r' =>
      let '(b, m') := know m n in
      match b with
      | Some true => row_range know r' m' (lo + w) (hi + w)
      | Some false => row_range know r' m' lo hi
      | None => row_range know r' m' (lo + Z.min 0 w) (hi + Z.max 0 w)
      end
  end.
(* a node, by the gates that lead to it *)
Fixpoint known (gm : Map.t gate) (fuel : nat) (m : assignment) (n : node) : option bool * assignment :=
  match Map.find n m with
  | Some b => (Some b, m)
  | None =>
      match fuel, Map.find n gm with
      | S fuel', Some g =>
          let '(lo, hi, m') := row_range (known gm fuel') (reads g) m 0 0 in
          if theta g <=? lo then (Some true, Map.add n true m')
          else if hi <? theta g then (Some false, Map.add n false m') else (None, m')
      | _, _ => (None, m)
      end
  end.
(* the gates behind a node: those before it are not gone into *)
Definition above (n : node) (gm : Map.t gate) : Map.t gate :=
  fold_right (fun t m => if Pos.ltb n (fst t) then Map.add (fst t) (snd t) m else m) (Map.empty gate) (Map.elements gm).
Definition highest_node (fs : list form) : node := fold_right (fun f n => fold_right (fun t : node * Z => Pos.max (fst t)) n (snd f)) 1%positive fs.
Definition levels := 8%nat.
Definition form_range (gm : Map.t gate) (f : form) (m : assignment) : Z * Z * assignment := row_range (known gm levels) (snd f) m (fst f) (fst f).
(* the first node that is not given *)
Fixpoint ask (r : row) (m : assignment) : option node :=
  match r with [] => None | (n, _) :: r' => match Map.find n m with None => Some n | Some _ => ask r' m end end.
(* a form of given nodes *)
Definition given (m : assignment) (n : node) : bool := match Map.find n m with Some b => b | None => false end.
Definition form_now (m : assignment) (f : form) : Z := form_value (given m) f.

(* P answers for what is given, or asks for one more node *)
Inductive verdict := Shown | Ask (n : node) | Lost.
Fixpoint by_cases (fuel : nat) (P : assignment -> verdict * assignment) (m : assignment) : bool :=
  match fuel with
  | O => false
  | S fuel' =>
      match P m with
      | (Shown, _) => true
      | (Lost, _) => false
      | (Ask n, m') => by_cases fuel' P (Map.add n false m') && by_cases fuel' P (Map.add n true m')
      end
  end.
Definition most_cases := 200%nat.  (* nodes asked for on one path *)

Lemma agrees_add e m n b : agrees e m -> e n = b -> agrees e (Map.add n b m).
Proof.
  intros A B k c F. destruct (Pos.eq_dec k n) as [->|N]; [rewrite Map.gss in F; injection F as <-; auto|rewrite Map.gso in F by auto; auto].
Qed.
Lemma agrees_empty e : agrees e (Map.empty bool).
Proof. intros n b F. rewrite Map.gempty in F. discriminate. Qed.
Definition explains (e : node -> bool) (gm : Map.t gate) : Prop := forall n g, Map.find n gm = Some g -> e n = fires e g.
Lemma above_sound e n gm : explains e gm -> explains e (above n gm).
Proof.
  intros X. unfold above. assert (E : forall k g, In (k, g) (Map.elements gm) -> e k = fires e g) by (intros; apply X; apply Map.elements_complete; auto).
  induction (Map.elements gm) as [|[k g] l I]; cbn [fold_right fst snd]; intros i h F; [rewrite Map.gempty in F; discriminate|].
  assert (J : explains e (fold_right (fun t m => if Pos.ltb n (fst t) then Map.add (fst t) (snd t) m else m) (Map.empty gate) l)) by (apply I; intros; apply E; right; auto).
  destruct (Pos.ltb n k); [|apply J; exact F]. destruct (Pos.eq_dec i k) as [->|N].
  - rewrite Map.gss in F. injection F as <-. apply E. left. auto.
  - rewrite Map.gso in F by auto. apply J. exact F.
Qed.

Lemma row_range_sound e know r : (forall m n b m', know m n = (b, m') -> agrees e m -> agrees e m' /\ forall x, b = Some x -> e n = x) ->
  forall m lo hi lo' hi' m', row_range know r m lo hi = (lo', hi', m') -> agrees e m ->
    agrees e m' /\ lo' - lo <= weighted e r <= hi' - hi.
Proof.
  intros K. induction r as [|[n w] r I]; intros m lo hi lo' hi' m' H A; cbn [row_range weighted] in *.
  - injection H as <- <- <-. split; auto. lia.
  - destruct (know m n) as [b m1] eqn:Q. destruct (K _ _ _ _ Q A) as [A1 B].
    destruct b as [[|]|]; destruct (I _ _ _ _ _ _ H A1) as [A2 R]; split; auto.
    + rewrite (B true eq_refl). lia.
    + rewrite (B false eq_refl). lia.
    + destruct (e n); lia.
Qed.
Lemma known_sound e gm : explains e gm -> forall fuel m n b m', known gm fuel m n = (b, m') -> agrees e m ->
  agrees e m' /\ forall x, b = Some x -> e n = x.
Proof.
  intros X. induction fuel as [|fuel I]; intros m n b m' H A; cbn [known] in H; destruct (Map.find n m) as [c|] eqn:F.
  - injection H as <- <-. split; auto. intros x [= <-]. auto.
  - injection H as <- <-. split; auto. discriminate.
  - injection H as <- <-. split; auto. intros x [= <-]. auto.
  - destruct (Map.find n gm) as [g|] eqn:G; [|injection H as <- <-; split; auto; discriminate].
    destruct (row_range (known gm fuel) (reads g) m 0 0) as [[lo hi] m1] eqn:R.
    destruct (row_range_sound e _ _ I _ _ _ _ _ _ R A) as [A1 B]. pose proof (X n g G) as Q. unfold fires in Q.
    destruct (Z.leb_spec (theta g) lo).
    + injection H as <- <-. assert (e n = true) as E by (rewrite Q; apply Z.leb_le; lia). split; [apply agrees_add; auto|]. intros x [= <-]. auto.
    + destruct (Z.ltb_spec hi (theta g)).
      * injection H as <- <-. assert (e n = false) as E by (rewrite Q; apply Z.leb_gt; lia). split; [apply agrees_add; auto|]. intros x [= <-]. auto.
      * injection H as <- <-. split; auto. discriminate.
Qed.
Lemma form_range_sound e gm f m lo hi m' : explains e gm -> form_range gm f m = (lo, hi, m') -> agrees e m ->
  agrees e m' /\ lo <= form_value e f <= hi.
Proof.
  intros X H A. unfold form_range in H. destruct (row_range_sound e _ _ (known_sound e gm X levels) _ _ _ _ _ _ H A) as [A1 B].
  split; auto. unfold form_value. lia.
Qed.
Lemma ask_none e r m : agrees e m -> ask r m = None -> weighted (given m) r = weighted e r.
Proof.
  intros A. induction r as [|[n w] r I]; cbn [ask weighted]; intros H; auto. unfold given at 1. destruct (Map.find n m) as [b|] eqn:F; [|discriminate].
  rewrite (I H), (A _ _ F). auto.
Qed.
Lemma form_now_sound e m f : agrees e m -> ask (snd f) m = None -> form_now m f = form_value e f.
Proof. intros A H. unfold form_now, form_value. rewrite (ask_none e); auto. Qed.
(* P is sound for Q: what it shows holds *)
Definition sound_for (e : node -> bool) (P : assignment -> verdict * assignment) (Q : Prop) : Prop :=
  forall m v m', P m = (v, m') -> agrees e m -> agrees e m' /\ (v = Shown -> Q).
Theorem by_cases_sound e P Q : sound_for e P Q -> forall fuel m, by_cases fuel P m = true -> agrees e m -> Q.
Proof.
  intros S. induction fuel as [|fuel I]; intros m H A; cbn [by_cases] in H; [discriminate|].
  destruct (P m) as [[|n|] m'] eqn:E; [|  |discriminate]; destruct (S _ _ _ E A) as [A' B]; auto.
  apply andb_prop in H as [H0 H1]. destruct (e n) eqn:N; [apply (I _ H1)|apply (I _ H0)]; apply agrees_add; auto.
Qed.
Corollary all_cases e P Q : sound_for e P Q -> by_cases most_cases P (Map.empty bool) = true -> Q.
Proof. intros S H. exact (by_cases_sound e P Q S most_cases _ H (agrees_empty e)). Qed.
Global Opaque most_cases levels.
