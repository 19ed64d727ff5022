(* Results that are bits of a number, or the ends of an interval where the number is beyond it: by cases, from the top bit. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums Carries Words.
Open Scope Z_scope.

Definition bit_range (m : assignment) (f : form) : Z * Z := match ask (snd f) m with None => (form_now m f, form_now m f) | Some _ => (0, 1) end.
Fixpoint number_range (m : assignment) (s : bool) (fs : list form) : Z * Z :=
  match fs with
  | [] => (0, 0)
  | [f] => let '(a, b) := bit_range m f in if s then (- b, - a) else (a, b)
  | f :: fs' => let '(a, b) := bit_range m f in let '(c, d) := number_range m s fs' in (a + 2 * c, b + 2 * d)
  end.
(* the first unknown node of the highest bit that has one *)
Fixpoint ask_top (fs : list form) (m : assignment) : option node :=
  match fs with [] => None | f :: fs' => match ask_top fs' m with Some n => Some n | None => ask (snd f) m end end.
Definition ask_or_lose (fs : list form) (m : assignment) : verdict := match ask_top fs m with Some n => Ask n | None => Lost end.
Definition few := 12%nat.
(* r is the form f *)
Definition copy_case (gm : Map.t gate) (f r : form) (m : assignment) : verdict * assignment :=
  match ask (snd f) m with
  | Some n => (Ask n, m)
  | None => let '(lo, hi, m') := form_range gm r m in (if (lo =? form_now m f) && (hi =? form_now m f) then Shown else Lost, m')
  end.
Fixpoint copies (gm : Map.t gate) (m : assignment) (from : nat -> form) (j : nat) (rs : list form) : bool :=
  match rs with [] => true | r :: rs' => by_cases few (copy_case gm (from j) r) m && copies gm m from (S j) rs' end.
Definition form_at (s : bool) (fs : list form) (j : nat) : form :=
  if Nat.ltb j (length fs) then nth j fs (0, []) else if s then last fs (0, []) else (0, []).

Definition limit (low high : option Z) (v : Z) : Z :=
  let v' := match low with Some a => Z.max v a | None => v end in match high with Some b => Z.min v' b | None => v' end.
Definition inside (low high : option Z) (v : Z) : bool :=
  match low with Some a => a <=? v | None => true end && match high with Some b => v <=? b | None => true end.
(* rs are the bits of limit (x / 2^shift), for x in lo..hi with bits fs *)
Definition limit_case (gm : Map.t gate) (s : bool) (fs : list form) (shift lo hi : Z) (low high : option Z) (rs : list form) (m : assignment) :
    verdict * assignment :=
  let '(a0, b0) := number_range m s fs in
  let a := Z.max a0 lo in let b := Z.min b0 hi in
  if b <? a then (Shown, m) else
  let va := a / 2 ^ shift in let vb := b / 2 ^ shift in
  if limit low high va =? limit low high vb then
    match forms_known gm rs m with
    | (Some l, m') => (if bits_are (limit low high va) l then Shown else Lost, m')
    | (None, m') => (ask_or_lose fs m, m')
    end
  else if inside low high va && inside low high vb && copies gm m (form_at s fs) (Z.to_nat shift) rs then (Shown, m)
  else (ask_or_lose fs m, m).

(* ---- a number of which one bit is one ---- *)
Fixpoint ones_now (m : assignment) (fs : list form) : Z :=
  match fs with [] => 0 | f :: fs' => match ask (snd f) m with None => form_now m f | Some _ => 0 end + ones_now m fs' end.
Definition improper_now (m : assignment) (fs : list form) : bool :=
  existsb (fun f => match ask (snd f) m with None => negb (is_bit (form_now m f)) | Some _ => false end) fs.
(* then P of its exponent *)
Definition power_case (fs : list form) (P : Z -> assignment -> verdict * assignment) (m : assignment) : verdict * assignment :=
  if improper_now m fs || (2 <=? ones_now m fs) then (Shown, m) else
  match ask (nodes_of fs) m with
  | Some n => (Ask n, m)
  | None => let v := from_bits (map (form_now m) fs) in if is_power v then P (Z.log2 v) m else (Shown, m)
  end.

Lemma limit_mono low high v w : v <= w -> limit low high v <= limit low high w.
Proof. unfold limit. destruct low, high; lia. Qed.
Lemma limit_inside low high v : inside low high v = true -> limit low high v = v.
Proof.
  unfold inside, limit. intros H. apply andb_prop in H as [H1 H2]. destruct low, high; try apply Z.leb_le in H1; try apply Z.leb_le in H2; lia.
Qed.
Lemma inside_between low high a b v : inside low high a = true -> inside low high b = true -> a <= v <= b -> inside low high v = true.
Proof.
  unfold inside. intros H K R. apply andb_prop in H as [H1 H2]. apply andb_prop in K as [K1 K2]. apply andb_true_iff.
  destruct low, high; try apply Z.leb_le in H1; try apply Z.leb_le in H2; try apply Z.leb_le in K1; try apply Z.leb_le in K2; split; auto; apply Z.leb_le; lia.
Qed.

Section Limits.
Variables (e : node -> bool) (gm : Map.t gate).
Hypothesis X : explains e gm.

Lemma bit_range_sound m f a b : agrees e m -> is_bit (form_value e f) = true -> bit_range m f = (a, b) -> a <= form_value e f <= b.
Proof.
  intros A B. unfold bit_range. destruct (ask (snd f) m) as [n|] eqn:Q; intros [= <- <-].
  - apply is_bit_range. exact B.
  - rewrite (form_now_sound e m f A Q). lia.
Qed.
Lemma number_range_sound m s fs : agrees e m -> all_bits (map (form_value e) fs) -> forall a b, number_range m s fs = (a, b) ->
  a <= decode s (map (form_value e) fs) <= b.
Proof.
  intros A. induction fs as [|f fs I]; intros H a b R; [cbn in *; injection R as <- <-; lia|]. inversion H as [|? ? B H']; subst.
  destruct fs as [|g fs].
  - cbn [number_range] in R. destruct (bit_range m f) as [a0 b0] eqn:F. pose proof (bit_range_sound _ _ _ _ A B F). cbn [map decode].
    destruct s; injection R as <- <-; lia.
  - change (number_range m s (f :: g :: fs)) with (let '(a, b) := bit_range m f in let '(c, d) := number_range m s (g :: fs) in (a + 2 * c, b + 2 * d)) in R.
    destruct (bit_range m f) as [a0 b0] eqn:F. pose proof (bit_range_sound _ _ _ _ A B F). destruct (number_range m s (g :: fs)) as [c d] eqn:N.
    specialize (I H' _ _ eq_refl). assert (a = a0 + 2 * c /\ b = b0 + 2 * d) as [-> ->] by (split; congruence). change (map (form_value e) (f :: g :: fs)) with (form_value e f :: map (form_value e) (g :: fs)).
    change (map (form_value e) (g :: fs)) with (form_value e g :: map (form_value e) fs) in *. rewrite decode_cons. lia.
Qed.
Lemma form_at_value s fs j : form_value e (form_at s fs j) = bit_of s (map (form_value e) fs) j.
Proof.
  unfold form_at, bit_of. rewrite map_length. destruct (Nat.ltb j (length fs)).
  - change 0 with (form_value e (0, [])) at 2. rewrite map_nth. auto.
  - destruct s; auto. induction fs as [|f [|g fs] I]; auto.
Qed.
Lemma copies_sound m from rs : agrees e m -> forall j, copies gm m from j rs = true ->
  forall i, (i < length rs)%nat -> nth i (map (form_value e) rs) 0 = form_value e (from (j + i)%nat).
Proof.
  intros A. induction rs as [|r rs I]; intros j H i L; cbn [copies length] in *; [lia|]. apply andb_prop in H as [H1 H2]. destruct i as [|i].
  - cbn [map nth]. rewrite Nat.add_0_r. eapply by_cases_sound; [|exact H1|exact A]. clear - X. intros m v m' H A. unfold copy_case in H.
    destruct (ask (snd (from j)) m) as [n|] eqn:Q; [injection H as <- <-; split; auto; discriminate|].
    destruct (form_range gm r m) as [[lo hi] m1] eqn:R. destruct (form_range_sound e gm _ _ _ _ _ X R A) as [A1 V]. injection H as <- <-. split; auto.
    rewrite (form_now_sound e m _ A Q). destruct (Z.eqb_spec lo (form_value e (from j))), (Z.eqb_spec hi (form_value e (from j))); cbn; try discriminate. intros _. lia.
  - cbn [map nth]. rewrite (I _ H2 i) by lia. f_equal. f_equal. lia.
Qed.
Lemma ask_or_lose_not fs m : ask_or_lose fs m <> Shown.
Proof. unfold ask_or_lose. destruct (ask_top fs m); discriminate. Qed.
Theorem limit_case_sound s fs shift lo hi low high rs x :
  all_bits (map (form_value e) fs) -> decode s (map (form_value e) fs) = x -> lo <= x <= hi -> 0 <= shift ->
  sound_for e (limit_case gm s fs shift lo hi low high rs) (bits_are (limit low high (x / 2 ^ shift)) (map (form_value e) rs) = true).
Proof.
  intros B D R Sh m v m' H A. unfold limit_case in H. destruct (number_range m s fs) as [a0 b0] eqn:N. pose proof (number_range_sound _ _ _ A B _ _ N) as NR. rewrite D in NR.
  set (a := Z.max a0 lo) in *. set (b := Z.min b0 hi) in *. assert (AB : a <= x <= b) by lia.
  destruct (Z.ltb_spec b a); [lia|]. assert (P2 : 0 < 2 ^ shift) by (apply Z.pow_pos_nonneg; lia).
  assert (VA : a / 2 ^ shift <= x / 2 ^ shift) by (apply Z.div_le_mono; lia). assert (VB : x / 2 ^ shift <= b / 2 ^ shift) by (apply Z.div_le_mono; lia).
  destruct (Z.eqb_spec (limit low high (a / 2 ^ shift)) (limit low high (b / 2 ^ shift))) as [E|].
  - pose proof (limit_mono low high _ _ VA). pose proof (limit_mono low high _ _ VB). replace (limit low high (x / 2 ^ shift)) with (limit low high (a / 2 ^ shift)) by lia.
    destruct (forms_known gm rs m) as [[l|] m1] eqn:F; destruct (forms_known_sound e gm X _ _ _ _ F A) as [A1 V]; injection H as <- <-; split; auto.
    + rewrite (V _ eq_refl). destruct (bits_are _ l); auto. discriminate.
    + intros K. destruct (ask_or_lose_not fs m K).
  - destruct (inside low high (a / 2 ^ shift) && inside low high (b / 2 ^ shift) && copies gm m (form_at s fs) (Z.to_nat shift) rs) eqn:C.
    + injection H as <- <-. split; auto. intros _. apply andb_prop in C as [C C3]. apply andb_prop in C as [C1 C2].
      rewrite limit_inside by (eapply inside_between; [exact C1|exact C2|lia]). apply shifted_bits; auto. intros j J. rewrite map_length in J.
      rewrite (copies_sound m _ _ A _ C3 j J), form_at_value, <- (decode_bit s _ B), D. f_equal. f_equal. lia.
    + injection H as <- <-. split; auto. intros K. destruct (ask_or_lose_not fs m K).
Qed.
Lemma ones_now_sound m fs : agrees e m -> all_bits (map (form_value e) fs) -> ones_now m fs <= add_up (map (form_value e) fs).
Proof.
  intros A. induction fs as [|f fs I]; intros H; cbn [ones_now map add_up fold_right] in *; [lia|]. fold (add_up (map (form_value e) fs)).
  inversion H as [|? ? B H']; subst. specialize (I H'). apply is_bit_range in B. destruct (ask (snd f) m) eqn:Q; [lia|]. rewrite (form_now_sound e m f A Q). lia.
Qed.
Theorem power_case_sound fs P Q : all_bits (map (form_value e) fs) -> is_power (from_bits (map (form_value e) fs)) = true ->
  sound_for e (P (Z.log2 (from_bits (map (form_value e) fs)))) Q -> sound_for e (power_case fs P) Q.
Proof.
  intros B Po S m v m' H A. unfold power_case in H. destruct (improper_now m fs || (2 <=? ones_now m fs)) eqn:O.
  - exfalso. apply orb_prop in O as [O|O].
    + unfold improper_now in O. apply existsb_exists in O as (f & F & O). destruct (ask (snd f) m) eqn:K; [discriminate|].
      rewrite (form_now_sound e m f A K) in O. unfold all_bits in B. rewrite Forall_forall in B. rewrite (B (form_value e f)) in O by (apply in_map; exact F). discriminate.
    + apply Z.leb_le in O. pose proof (ones_now_sound m fs A B). rewrite (one_bit _ B Po) in *. lia.
  - destruct (ask (nodes_of fs) m) as [n|] eqn:K; [injection H as <- <-; split; auto; discriminate|].
    rewrite (map_ext_in _ _ fs (ask_nodes e m fs A K)), Po in H. exact (S m v m' H A).
Qed.
End Limits.
Global Opaque few.
