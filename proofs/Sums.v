(* Why an iterated addition is right: columns of bits, each count a function of one sum, and the carries of two rows. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases.
Open Scope Z_scope.

Definition form_dec (x y : form) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.
Definition add_forms (f g : form) : form := (fst f + fst g, snd f ++ snd g).
Definition scale_form (c : Z) (f : form) : form := (c * fst f, map (fun t : node * Z => (fst t, c * snd t)) (snd f)).
Lemma weighted_app e r s : weighted e (r ++ s) = weighted e r + weighted e s.
Proof. induction r as [|[n w] r I]; cbn [app weighted]; auto. rewrite I. lia. Qed.
Lemma weighted_scaled e w r : weighted e (map (fun t : node * Z => (fst t, w * snd t)) r) = w * weighted e r.
Proof. induction r as [|[n z] r I]; cbn [map weighted fst snd]; [lia|]. rewrite I. destruct (e n); lia. Qed.
Lemma add_forms_value e f g : form_value e (add_forms f g) = form_value e f + form_value e g.
Proof. unfold form_value, add_forms. cbn [fst snd]. rewrite weighted_app. lia. Qed.
Lemma scale_form_value e c f : form_value e (scale_form c f) = c * form_value e f.
Proof. unfold form_value, scale_form. cbn [fst snd]. rewrite weighted_scaled. lia. Qed.

(* ---- nodes that depend on one sum alone: its bank, and gates over the bank ---- *)
Definition in_bank (gm : Map.t gate) (s : polynomial) (n : node) : option Z :=
  match Map.find n gm with
  | Some g => if polynomial_dec (canonical (of_row (reads g))) s then Some (theta g) else None
  | None => None
  end.
Fixpoint all_in_bank (gm : Map.t gate) (s : polynomial) (r : row) : option (list (Z * Z)) :=
  match r with
  | [] => Some []
  | (n, w) :: r' => match in_bank gm s n, all_in_bank gm s r' with Some t, Some l => Some ((t, w) :: l) | _, _ => None end
  end.
(* [so_far + sum of w over the steps (t, w) with t <= v >= at_least] *)
Record ladder := Ladder { so_far : Z; steps_left : list (Z * Z); at_least : Z }.
Definition ladder_of (gm : Map.t gate) (s : polynomial) (n : node) : option ladder :=
  match in_bank gm s n with
  | Some t => Some (Ladder 0 [(t, 1)] 1)
  | None => match Map.find n gm with
            | Some g => match all_in_bank gm s (reads g) with Some l => Some (Ladder 0 l (theta g)) | None => None end
            | None => None
            end
  end.
Fixpoint reached (v : Z) (l : list (Z * Z)) : Z := match l with [] => 0 | (t, w) :: l' => (if t <=? v then w else 0) + reached v l' end.
Definition climb (v : Z) (l : ladder) : ladder :=
  Ladder (so_far l + reached v (steps_left l)) (filter (fun t : Z * Z => v <? fst t) (steps_left l)) (at_least l).
Definition digit := (Z * list (ladder * Z))%type.
Fixpoint ladders (gm : Map.t gate) (s : polynomial) (r : row) : option (list (ladder * Z)) :=
  match r with
  | [] => Some []
  | (n, w) :: r' => match ladder_of gm s n, ladders gm s r' with Some t, Some l => Some ((t, w) :: l) | _, _ => None end
  end.
Fixpoint digits_of (gm : Map.t gate) (s : polynomial) (ds : list form) : option (list digit) :=
  match ds with
  | [] => Some []
  | (c, r) :: ds' => match ladders gm s r, digits_of gm s ds' with Some l, Some l' => Some ((c, l) :: l') | _, _ => None end
  end.
Definition climb_digit (v : Z) (d : digit) : digit := (fst d, map (fun t : ladder * Z => (climb v (fst t), snd t)) (snd d)).
Fixpoint sum_with (f : ladder -> bool) (l : list (ladder * Z)) : Z := match l with [] => 0 | (t, w) :: l' => (if f t then w else 0) + sum_with f l' end.
Definition digit_now (d : digit) : Z := fst d + sum_with (fun t => at_least t <=? so_far t) (snd d).
Definition digit_at (x : Z) (d : digit) : Z := fst d + sum_with (fun t => at_least t <=? so_far t + reached x (steps_left t)) (snd d).
Fixpoint sweep (count : nat) (v : Z) (ds : list digit) (P : Z -> list Z -> bool) : bool :=
  match count with
  | O => true
  | S count' => let ds' := map (climb_digit v) ds in P v (map digit_now ds') && sweep count' (v + 1) ds' P
  end.
Fixpoint forms_known (gm : Map.t gate) (fs : list form) (m : assignment) : option (list Z) * assignment :=
  match fs with
  | [] => (Some [], m)
  | f :: fs' =>
      let '(lo, hi, m1) := form_range gm f m in
      let '(l, m2) := forms_known gm fs' m1 in
      (if lo =? hi then match l with Some l' => Some (lo :: l') | None => None end else None, m2)
  end.
Definition few_nodes (gm : Map.t gate) (s : form) (lo hi : Z) (ds : list form) (P : Z -> list Z -> bool) (m : assignment) : verdict * assignment :=
  match ask (snd s) m with
  | Some n => (Ask n, m)
  | None =>
      let v := form_now m s in
      if (v <? lo) || (hi <? v) then (Shown, m)
      else let '(l, m') := forms_known gm ds m in (match l with Some l' => if P v l' then Shown else Lost | None => Lost end, m')
  end.
Fixpoint lowest (p : polynomial) : Z := match p with [] => 0 | (_, c) :: p' => Z.min 0 c + lowest p' end.
Fixpoint highest (p : polynomial) : Z := match p with [] => 0 | (_, c) :: p' => Z.max 0 c + highest p' end.
(* P holds of the sum s and the digits, for every value of s from lo to hi *)
Definition reads_sum (gm : Map.t gate) (s : form) (lo hi : Z) (ds : list form) (P : Z -> list Z -> bool) : bool :=
  let c := canonical (of_row (snd s)) in
  match c with
  | _ :: _ :: _ :: _ =>
      match digits_of gm c ds with
      | Some l =>
          let a := Z.max (lo - fst s) (lowest c) in let b := Z.min (hi - fst s) (highest c) in
          sweep (Z.to_nat (b - a + 1)) a l (fun v => P (v + fst s))
      | None => false
      end
  | _ => by_cases most_cases (few_nodes gm s lo hi ds P) (Map.empty bool)
  end.

Lemma reached_filter v x l : v <= x -> reached v l + reached x (filter (fun t : Z * Z => v <? fst t) l) = reached x l.
Proof.
  intros H. induction l as [|[t w] l I]; cbn [reached filter fst]; auto.
  destruct (Z.leb_spec t v), (Z.ltb_spec v t); try lia; cbn [reached]; destruct (Z.leb_spec t x); lia.
Qed.
Lemma climb_at v x t : v <= x -> so_far (climb v t) + reached x (steps_left (climb v t)) = so_far t + reached x (steps_left t).
Proof. intros H. cbn [climb so_far steps_left]. pose proof (reached_filter v x (steps_left t) H). lia. Qed.
Lemma digit_climb v x d : v <= x -> digit_at x (climb_digit v d) = digit_at x d.
Proof.
  intros H. unfold digit_at, climb_digit. cbn [fst snd]. f_equal. induction (snd d) as [|[t w] l I]; cbn [map sum_with fst snd]; auto.
  rewrite I, climb_at by exact H. auto.
Qed.
Lemma reached_none v l : reached v (filter (fun t : Z * Z => v <? fst t) l) = 0.
Proof. pose proof (reached_filter v v l). lia. Qed.
Lemma digit_here v d : digit_now (climb_digit v d) = digit_at v d.
Proof.
  unfold digit_at, digit_now, climb_digit. cbn [fst snd]. f_equal. induction (snd d) as [|[t w] l I]; cbn [map sum_with fst snd]; auto.
  rewrite I. auto.
Qed.
Lemma sweep_sound P count : forall v ds x, sweep count v ds P = true -> v <= x < v + Z.of_nat count -> P x (map (digit_at x) ds) = true.
Proof.
  induction count as [|count I]; intros v ds x H R; [lia|]. cbn [sweep] in H. apply andb_prop in H as [H1 H2].
  destruct (Z.eq_dec x v) as [->|N].
  - rewrite map_map in H1. rewrite (map_ext _ (digit_at v)) in H1; auto. intros d. apply digit_here.
  - pose proof (I (v + 1) _ x H2). rewrite map_map in H. rewrite (map_ext _ (digit_at x)) in H; [apply H; lia|]. intros d. apply digit_climb. lia.
Qed.

Lemma amount_range e p : lowest p <= amount e p <= highest p.
Proof. induction p as [|[a c] p I]; cbn [lowest highest amount]; [lia|]. destruct (all_on e a); lia. Qed.

Section Explained.
Variables (e : node -> bool) (gm : Map.t gate).
Hypothesis X : explains e gm.

Lemma in_bank_sound s n t : in_bank gm s n = Some t -> e n = (t <=? amount e s).
Proof.
  unfold in_bank. destruct (Map.find n gm) as [g|] eqn:F; [|discriminate]. destruct (polynomial_dec _ s) as [E|]; [|discriminate].
  intros [= <-]. rewrite (X n g F). unfold fires. rewrite <- E, amount_canonical, amount_row. auto.
Qed.
Lemma all_in_bank_sound s r : forall l, all_in_bank gm s r = Some l -> weighted e r = reached (amount e s) l.
Proof.
  induction r as [|[n w] r I]; intros l H; cbn [all_in_bank] in H; [injection H as <-; auto|].
  destruct (in_bank gm s n) as [t|] eqn:B; [|discriminate]. destruct (all_in_bank gm s r) as [l'|]; [|discriminate]. injection H as <-.
  cbn [weighted reached]. rewrite (I l' eq_refl), (in_bank_sound _ _ _ B). auto.
Qed.
Lemma ladder_sound s n t : ladder_of gm s n = Some t -> e n = (at_least t <=? so_far t + reached (amount e s) (steps_left t)).
Proof.
  unfold ladder_of. destruct (in_bank gm s n) as [z|] eqn:B.
  - intros [= <-]. cbn. rewrite (in_bank_sound _ _ _ B). destruct (z <=? amount e s); auto.
  - destruct (Map.find n gm) as [g|] eqn:F; [|discriminate]. destruct (all_in_bank gm s (reads g)) as [l|] eqn:A; [|discriminate].
    intros [= <-]. cbn [at_least so_far steps_left]. rewrite (X n g F). unfold fires. rewrite (all_in_bank_sound _ _ _ A). auto.
Qed.
Lemma ladders_sound s r : forall l, ladders gm s r = Some l -> weighted e r = sum_with (fun t => at_least t <=? so_far t + reached (amount e s) (steps_left t)) l.
Proof.
  induction r as [|[n w] r I]; intros l H; cbn [ladders] in H; [injection H as <-; auto|].
  destruct (ladder_of gm s n) as [t|] eqn:B; [|discriminate]. destruct (ladders gm s r) as [l'|]; [|discriminate]. injection H as <-.
  cbn [weighted sum_with]. rewrite (I l' eq_refl), (ladder_sound _ _ _ B). auto.
Qed.
Lemma digits_sound s ds : forall l, digits_of gm s ds = Some l -> map (form_value e) ds = map (digit_at (amount e s)) l.
Proof.
  induction ds as [|[c r] ds I]; intros l H; cbn [digits_of] in H; [injection H as <-; auto|].
  destruct (ladders gm s r) as [t|] eqn:B; [|discriminate]. destruct (digits_of gm s ds) as [l'|]; [|discriminate]. injection H as <-.
  cbn [map]. rewrite (I l' eq_refl). f_equal. unfold form_value, digit_at. cbn [fst snd]. rewrite (ladders_sound _ _ _ B). auto.
Qed.
Lemma forms_known_sound fs : forall m l m', forms_known gm fs m = (l, m') -> agrees e m ->
  agrees e m' /\ forall k, l = Some k -> map (form_value e) fs = k.
Proof.
  induction fs as [|f fs I]; intros m l m' H A; cbn [forms_known] in H.
  - injection H as <- <-. split; auto. intros k [= <-]. auto.
  - destruct (form_range gm f m) as [[lo hi] m1] eqn:R. destruct (form_range_sound e gm f _ _ _ _ X R A) as [A1 B].
    destruct (forms_known gm fs m1) as [l1 m2] eqn:F. destruct (I _ _ _ F A1) as [A2 C]. injection H as <- <-. split; auto.
    intros k K. destruct (Z.eqb_spec lo hi); [|discriminate]. destruct l1 as [l'|]; [|discriminate]. injection K as <-.
    cbn [map]. rewrite (C l' eq_refl). f_equal. lia.
Qed.
Lemma few_nodes_sound s lo hi ds P : lo <= form_value e s <= hi ->
  sound_for e (few_nodes gm s lo hi ds P) (P (form_value e s) (map (form_value e) ds) = true).
Proof.
  intros R m v m' H A. unfold few_nodes in H. destruct (ask (snd s) m) as [n|] eqn:Q.
  - injection H as <- <-. split; auto. discriminate.
  - pose proof (form_now_sound e m s A Q) as N. destruct ((form_now m s <? lo) || (hi <? form_now m s)) eqn:O.
    + exfalso. apply orb_prop in O as [O|O]; apply Z.ltb_lt in O; lia.
    + destruct (forms_known gm ds m) as [l m1] eqn:F. destruct (forms_known_sound _ _ _ _ F A) as [A1 B]. injection H as <- <-. split; auto.
      destruct l as [l'|]; [|discriminate]. rewrite (B l' eq_refl), <- N. destruct (P (form_now m s) l'); auto. discriminate.
Qed.
Theorem reads_sum_sound s lo hi ds P : reads_sum gm s lo hi ds P = true -> lo <= form_value e s <= hi ->
  P (form_value e s) (map (form_value e) ds) = true.
Proof.
  intros H R.
  assert (F : by_cases most_cases (few_nodes gm s lo hi ds P) (Map.empty bool) = true -> P (form_value e s) (map (form_value e) ds) = true).
  { apply (all_cases e), few_nodes_sound. exact R. }
  unfold reads_sum in H. destruct (canonical (of_row (snd s))) as [|t1 [|t2 [|t3 c]]] eqn:C; auto.
  rewrite <- C in H. destruct (digits_of gm (canonical (of_row (snd s))) ds) as [l|] eqn:D; [|discriminate].
  pose proof (digits_sound _ _ _ D) as E. rewrite amount_canonical, amount_row in E. rewrite E.
  pose proof (sweep_sound _ _ _ _ (weighted e (snd s)) H) as W. unfold form_value at 1. rewrite Z.add_comm. apply W. unfold form_value in R.
  pose proof (amount_range e (canonical (of_row (snd s)))) as Q. rewrite amount_canonical, amount_row in Q. lia.
Qed.

(* ---- columns: those of bits that weigh 1, 2, 4, ... ---- *)
Fixpoint column_value (c : list form) : Z := match c with [] => 0 | f :: c' => form_value e f + column_value c' end.
Fixpoint columns_value (cs : list (list form)) : Z := match cs with [] => 0 | c :: cs' => column_value c + 2 * columns_value cs' end.
Fixpoint from_bits (l : list Z) : Z := match l with [] => 0 | b :: l' => b + 2 * from_bits l' end.
Definition modulus {A} (l : list A) : Z := 2 ^ Z.of_nat (length l).
End Explained.
Fixpoint column_sum (c : list form) : form := match c with [] => (0, []) | f :: c' => add_forms f (column_sum c') end.
Fixpoint joined (cs : list (list form)) : form := match cs with [] => (0, []) | c :: cs' => add_forms (column_sum c) (scale_form 2 (joined cs')) end.
Fixpoint most (cs : list (list form)) : Z := match cs with [] => 0 | c :: cs' => Z.of_nat (length c) + 2 * most cs' end.
(* a constant, a node, its negation, or a bit that is given *)
Definition surely_bit (bits_ : list form) (f : form) : bool :=
  match f with
  | (c, []) => is_bit c
  | (c, [(_, w)]) => (c =? 0) && (w =? 1) || (c =? 1) && (w =? -1)
  | _ => false
  end || existsb (fun g => if form_dec f g then true else false) bits_.
Fixpoint take_out (start size : nat) (cs : list (list form)) : list (list form) * list (list form) :=
  match start, size, cs with
  | S start', _, c :: cs' => let '(t, l) := take_out start' size cs' in (t, c :: l)
  | O, S size', c :: cs' => let '(t, l) := take_out O size' cs' in (c :: t, [] :: l)
  | _, _, _ => ([], cs)
  end.
Fixpoint zip (ds : list form) (cs : list (list form)) : list (list form) :=
  match ds, cs with d :: ds', c :: cs' => (d :: c) :: zip ds' cs' | _, _ => cs end.
Fixpoint put (start : nat) (ds : list form) (cs : list (list form)) : list (list form) :=
  match start, cs with S start', c :: cs' => c :: put start' ds cs' | O, _ => zip ds cs | _, _ => cs end.
(* columns start .. start + size - 1 give way to the digits of their sum *)
Record part := Part { start : nat; span : nat; digits : list form }.
Definition width_left (start : nat) (cs : list (list form)) : Z := 2 ^ Z.of_nat (length cs - start).
Definition check_part (gm : Map.t gate) (bits_ : list form) (p : part) (state : list (list form) * list (list form)) :
    option (list (list form) * list (list form)) :=
  let '(old, new) := state in
  let '(taken, kept) := take_out (start p) (span p) old in
  let m := width_left (start p) old in
  if forallb (forallb (surely_bit bits_)) taken && (Nat.leb (start p) (length old)) &&
     reads_sum gm (joined taken) 0 (most taken) (digits p) (fun v ds => (from_bits ds - v) mod m =? 0)
  then Some (kept, put (start p) (digits p) new) else None.
Fixpoint check_parts (gm : Map.t gate) (bits_ : list form) (ps : list part) (state : list (list form) * list (list form)) :
    option (list (list form) * list (list form)) :=
  match ps with [] => Some state | p :: ps' => match check_part gm bits_ p state with Some s => check_parts gm bits_ ps' s | None => None end end.
Fixpoint beside (a b : list (list form)) : list (list form) := match a, b with x :: a', y :: b' => (x ++ y) :: beside a' b' | [], _ => b | _, [] => a end.
Fixpoint check_stages (gm : Map.t gate) (bits_ : list form) (ss : list (list part)) (cs : list (list form)) : option (list (list form)) :=
  match ss with
  | [] => Some cs
  | ps :: ss' => match check_parts gm bits_ ps (cs, map (fun _ => []) cs) with
                 | Some (old, new) => check_stages gm bits_ ss' (beside old new)
                 | None => None
                 end
  end.

Section Stages.
Variables (e : node -> bool) (gm : Map.t gate) (bits_ : list form).
Hypothesis X : explains e gm.
Hypothesis B : forall f, In f bits_ -> is_bit (form_value e f) = true.
Notation cv := (columns_value e).

Lemma is_bit_range x : is_bit x = true -> 0 <= x <= 1.
Proof. unfold is_bit. intros H. apply orb_prop in H as [H|H]; apply Z.eqb_eq in H; lia. Qed.
Lemma surely_bit_sound f : surely_bit bits_ f = true -> 0 <= form_value e f <= 1.
Proof.
  unfold surely_bit. intros H. apply orb_prop in H as [H|H].
  - destruct f as [c [|[n w] [|]]]; try discriminate; unfold form_value; cbn [fst snd weighted].
    + apply is_bit_range in H. lia.
    + apply orb_prop in H as [H|H]; apply andb_prop in H as [H1 H2]; apply Z.eqb_eq in H1, H2; subst; destruct (e n); lia.
  - apply existsb_exists in H as (g & G & H). destruct (form_dec f g) as [->|]; [|discriminate]. apply is_bit_range. auto.
Qed.
Lemma column_sum_value c : form_value e (column_sum c) = column_value e c.
Proof. induction c as [|f c I]; cbn [column_sum column_value]; auto. rewrite add_forms_value, I. auto. Qed.
Lemma joined_value cs : form_value e (joined cs) = cv cs.
Proof. induction cs as [|c cs I]; cbn [joined columns_value]; auto. rewrite add_forms_value, scale_form_value, column_sum_value, I. auto. Qed.
Lemma most_sound cs : forallb (forallb (surely_bit bits_)) cs = true -> 0 <= cv cs <= most cs.
Proof.
  induction cs as [|c cs I]; cbn [forallb columns_value most]; [lia|]. intros H. apply andb_prop in H as [H1 H2]. specialize (I H2).
  assert (0 <= column_value e c <= Z.of_nat (length c)); [|lia]. clear -H1 B. induction c as [|f c J]; cbn [column_value length forallb] in *; [lia|].
  apply andb_prop in H1 as [H1 H2]. apply surely_bit_sound in H1. specialize (J H2). lia.
Qed.
Lemma pow_S n : 2 ^ Z.of_nat (S n) = 2 * 2 ^ Z.of_nat n.
Proof. rewrite Nat2Z.inj_succ, Z.pow_succ_r; lia. Qed.
Lemma take_out_value start : forall size cs t l, take_out start size cs = (t, l) ->
  cv cs = 2 ^ Z.of_nat start * cv t + cv l /\ length l = length cs.
Proof.
  induction start as [|start I].
  - intros size; induction size as [|size J]; intros [|c cs] t l H; cbn [take_out] in H; change (2 ^ Z.of_nat 0) with 1 in *; try (injection H as <- <-; cbn [columns_value]; split; auto; lia).
    destruct (take_out 0 size cs) as [t' l'] eqn:E. injection H as <- <-. destruct (J _ _ _ E) as [A L]. cbn [columns_value length column_value].
    change (2 ^ Z.of_nat 0) with 1 in *. rewrite A. split; lia.
  - intros size [|c cs] t l H.
    + destruct size; injection H as <- <-; cbn [columns_value]; split; auto; lia.
    + assert (H' : (let '(t, l) := take_out start size cs in (t, c :: l)) = (t, l)) by (destruct size; exact H).
      destruct (take_out start size cs) as [t' l'] eqn:E. injection H' as <- <-. destruct (I _ _ _ _ E) as [A L].
      cbn [columns_value length]. rewrite A, pow_S. split; lia.
Qed.
Lemma zip_value cs : forall ds, exists k, cv (zip ds cs) + modulus cs * k = cv cs + from_bits (map (form_value e) ds).
Proof.
  unfold modulus. induction cs as [|c cs I]; intros ds.
  - exists (from_bits (map (form_value e) ds)). replace (zip ds []) with (@nil (list form)) by (destruct ds; auto). cbn [columns_value length]. change (2 ^ Z.of_nat 0) with 1. lia.
  - destruct ds as [|d ds]; [exists 0; cbn [zip map from_bits]; lia|]. destruct (I ds) as [k K]. exists k.
    cbn [zip columns_value column_value map from_bits length]. rewrite pow_S. lia.
Qed.
Lemma zip_length cs : forall ds, length (zip ds cs) = length cs.
Proof. induction cs as [|c cs I]; intros [|d ds]; cbn [zip length]; auto. Qed.
Lemma put_value start : forall cs ds, exists k, cv (put start ds cs) + modulus cs * k = cv cs + 2 ^ Z.of_nat start * from_bits (map (form_value e) ds).
Proof.
  unfold modulus. induction start as [|start I]; intros cs ds.
  - cbn [put]. destruct (zip_value cs ds) as [k K]. exists k. unfold modulus in K. cbn [Z.of_nat]. lia.
  - destruct cs as [|c cs]; cbn [put]; [exists (2 ^ Z.of_nat (S start) * from_bits (map (form_value e) ds)); cbn [columns_value length]; lia|].
    destruct (I cs ds) as [k K]. exists k. cbn [columns_value length]. rewrite !pow_S. lia.
Qed.
Lemma put_length start : forall cs ds, length (put start ds cs) = length cs.
Proof. induction start as [|start I]; intros [|c cs] ds; cbn [put length]; auto; try apply zip_length. Qed.
Definition same_mod (m a b : Z) : Prop := exists k, a = b + m * k.
Lemma same_mod_refl m a : same_mod m a a. Proof. exists 0. lia. Qed.
Lemma same_mod_trans m a b c : same_mod m a b -> same_mod m b c -> same_mod m a c.
Proof. intros [k ->] [l ->]. exists (k + l). lia. Qed.
Definition state_value (s : list (list form) * list (list form)) : Z := cv (fst s) + cv (snd s).
Lemma check_part_sound p s s' : check_part gm bits_ p s = Some s' -> length (fst s) = length (snd s) ->
  same_mod (modulus (fst s)) (state_value s) (state_value s') /\ length (fst s') = length (fst s) /\ length (snd s') = length (snd s).
Proof.
  destruct s as [old new]. cbn [fst snd]. intros H L. unfold check_part in H. destruct (take_out (start p) (span p) old) as [t l] eqn:T.
  destruct (_ && _) eqn:C; [|discriminate]. injection H as <-. cbn [fst snd]. destruct (take_out_value _ _ _ _ _ T) as [V L'].
  split; [|split; auto; apply put_length]. apply andb_prop in C as [C C3]. apply andb_prop in C as [C1 C2]. apply Nat.leb_le in C2.
  pose proof (reads_sum_sound e gm X _ _ _ _ _ C3) as R. rewrite joined_value in R. specialize (R (most_sound _ C1)).
  apply Z.eqb_eq in R. set (d := from_bits (map (form_value e) (digits p))) in *.
  assert (M : 0 < width_left (start p) old) by (unfold width_left; apply Z.pow_pos_nonneg; lia).
  pose proof (Z.div_mod (d - cv t) (width_left (start p) old)) as D. rewrite R in D.
  destruct (put_value (start p) new (digits p)) as [k K]. fold d in K. unfold modulus in *. rewrite <- L in K.
  assert (E : 2 ^ Z.of_nat (length old) = 2 ^ Z.of_nat (start p) * width_left (start p) old).
  { unfold width_left. rewrite <- Z.pow_add_r by lia. f_equal. lia. }
  exists (k - (d - cv t) / width_left (start p) old). unfold state_value. cbn [fst snd]. rewrite V.
  assert (F : 2 ^ Z.of_nat (length old) * ((d - cv t) / width_left (start p) old) = 2 ^ Z.of_nat (start p) * (d - cv t)).
  { rewrite E, <- Z.mul_assoc. f_equal. lia. }
  rewrite Z.mul_sub_distr_l, F. lia.
Qed.
Lemma check_parts_sound ps : forall s s', check_parts gm bits_ ps s = Some s' -> length (fst s) = length (snd s) ->
  same_mod (modulus (fst s)) (state_value s) (state_value s') /\ length (fst s') = length (fst s) /\ length (snd s') = length (snd s).
Proof.
  induction ps as [|p ps I]; intros s s' H L; cbn [check_parts] in H.
  - injection H as <-. split; auto. apply same_mod_refl.
  - destruct (check_part gm bits_ p s) as [s1|] eqn:C; [|discriminate]. destruct (check_part_sound _ _ _ C L) as (A & L1 & L2).
    destruct (I _ _ H) as (A' & L3 & L4); [congruence|]. split; [|split; congruence]. eapply same_mod_trans; [exact A|].
    unfold modulus in *. rewrite <- L1. exact A'.
Qed.
Lemma column_value_app a b : column_value e (a ++ b) = column_value e a + column_value e b.
Proof. induction a as [|f a I]; cbn [app column_value]; auto. rewrite I. lia. Qed.
Lemma beside_value a : forall b, length a = length b -> cv (beside a b) = cv a + cv b /\ length (beside a b) = length a.
Proof.
  induction a as [|x a I]; intros [|y b] L; cbn [beside columns_value length] in *; try discriminate; auto.
  destruct (I b) as [A L']; [lia|]. rewrite column_value_app, A. split; lia.
Qed.
Lemma empties_value (cs : list (list form)) : cv (map (fun _ => []) cs) = 0.
Proof. induction cs as [|c cs I]; cbn [map columns_value column_value]; auto. rewrite I. lia. Qed.
Theorem check_stages_sound ss : forall cs cs', check_stages gm bits_ ss cs = Some cs' -> same_mod (modulus cs) (cv cs) (cv cs') /\ length cs' = length cs.
Proof.
  induction ss as [|ps ss I]; intros cs cs' H; cbn [check_stages] in H.
  - injection H as <-. split; auto. apply same_mod_refl.
  - destruct (check_parts gm bits_ ps (cs, map (fun _ => []) cs)) as [[old new]|] eqn:C; [|discriminate].
    destruct (check_parts_sound _ _ _ C) as (A & L1 & L2); [cbn; rewrite map_length; auto|]. cbn [fst snd] in *. rewrite map_length in L2.
    destruct (beside_value old new) as [V L3]; [congruence|]. destruct (I _ _ H) as [A' L4]. split; [|congruence].
    eapply same_mod_trans; [|unfold modulus in *; rewrite L3, L1 in A'; exact A'].
    unfold state_value in A. cbn [fst snd] in A. rewrite empties_value, <- V in A. replace (cv cs) with (cv cs + 0) by lia. exact A.
Qed.
End Stages.
