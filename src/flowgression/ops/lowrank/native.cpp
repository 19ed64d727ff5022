// Low-rank attention on a processor, its monomials made in registers: built by native.py for one D, E and G.
//
// Letters as in polynomial.py. The order of monomials is that of features.py: by degree, and within a degree by the
// largest variable, then the next. Sums are those whose roundings docs/theory-reference.md counts: at most 64 products in
// float32, in turn, and the blocks in float64.

#include <algorithm>
#include <cstring>

#ifdef __AVX512F__
constexpr int LANES = 16, SUMS = 27;  // numbers of a vector, vectors that hold sums
#else
constexpr int LANES = 8, SUMS = 10;
#endif
constexpr int BLOCK = 64, COLUMNS = E + 1;
constexpr int VECTORS = std::max(1, SUMS / COLUMNS);  // of monomials (fold) or tokens (read) at once
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int Places __attribute__((vector_size(4 * LANES)));

constexpr int rank(int d, int g) {
    long count = 1;
    for (int i = 1; i <= g; i++) count = count * (d + i) / i;
    return count;
}
constexpr int RANK = rank(D, G);

// Sums of VECTORS vectors for each column: in float32 within a block, in float64 across.
struct Sums {
    Vector part[VECTORS][COLUMNS];
    double total[VECTORS][COLUMNS][LANES];

    void flush() {
        for (int n = 0; n < VECTORS; n++)
            for (int c = 0; c < COLUMNS; c++) {
                for (int i = 0; i < LANES; i++) total[n][c][i] += part[n][c][i];
                part[n][c] = Vector{};
            }
    }
    void clear() {
        std::memset(part, 0, sizeof part);
        std::memset(total, 0, sizeof total);
    }
};

// Fills the places of the factors of every monomial; the place D stands for 1.
static int places[RANK][G];
static int fill(int degree, int largest, int* chosen, int used, int row) {
    if (used == degree) {
        for (int s = 0; s < G; s++) places[row][s] = s < degree ? chosen[s] : D;
        return row + 1;
    }
    for (int i = 0; i <= largest; i++) {
        chosen[used] = i;
        row = fill(degree, i, chosen, used + 1, row);
    }
    return row;
}

extern "C" void prepare() {
    int chosen[G], row = 0;
    for (int degree = 0; degree <= G; degree++) row = fill(degree, D - 1, chosen, 0, row);
}

// sums [RANK, E + 1] = phi(k)^T [v, 1], for k [tokens, D] and v [tokens, E].
extern "C" void fold(const float* k, const float* v, double* sums, long tokens) {
    constexpr int SIZE = LANES * VECTORS;
    alignas(64) float wide[BLOCK][D + 1];
    Sums s;
    for (int first = 0; first < RANK; first += SIZE) {
        int place[G][SIZE];
        for (int g = 0; g < G; g++)
            for (int i = 0; i < SIZE; i++) place[g][i] = places[std::min(first + i, RANK - 1)][g];
        s.clear();
        for (long begin = 0; begin < tokens; begin += BLOCK) {
            const int count = std::min<long>(BLOCK, tokens - begin);
            for (int t = 0; t < count; t++) {
                std::memcpy(wide[t], k + (begin + t) * D, 4 * D);
                wide[t][D] = 1;
            }
            Vector part[VECTORS][COLUMNS] = {};
            for (int t = 0; t < count; t++) {
                const float* value = v + (begin + t) * E;
                Vector low = {}, high = {};
                std::memcpy(&low, wide[t], 4 * std::min(D + 1, LANES));
                if (D + 1 > LANES) std::memcpy(&high, wide[t] + LANES, 4 * (D + 1 - LANES));
                for (int n = 0; n < VECTORS; n++) {
                    Vector feature;
                    for (int g = 0; g < G; g++) {
                        Places from;
                        std::memcpy(&from, place[g] + n * LANES, sizeof from);
                        const Vector factor =
                            D + 1 > LANES ? __builtin_shuffle(low, high, from) : __builtin_shuffle(low, from);
                        feature = g ? feature * factor : factor;
                    }
                    for (int c = 0; c < E; c++) part[n][c] += feature * value[c];
                    part[n][E] += feature;
                }
            }
            std::memcpy(s.part, part, sizeof part);
            s.flush();
        }
        for (int n = 0; n < VECTORS; n++)
            for (int c = 0; c < COLUMNS; c++)
                for (int i = 0; i < LANES; i++)
                    if (first + n * LANES + i < RANK) sums[(first + n * LANES + i) * COLUMNS + c] = s.total[n][c][i];
    }
}

// The sums over all monomials of one degree that go on from a product of `degree - LEFT` factors.
template <int LEFT>
static inline __attribute__((always_inline)) void walk(
    const Vector (&x)[VECTORS][D], int largest, const Vector* product, Vector (&part)[VECTORS][COLUMNS], Sums& s,
    const float*& state, int& seen) {
    if constexpr (LEFT == 0) {
        for (int n = 0; n < VECTORS; n++)
            for (int c = 0; c < COLUMNS; c++) part[n][c] += product[n] * state[c];
        state += COLUMNS;
        if (++seen == BLOCK) {
            std::memcpy(s.part, part, sizeof part);
            s.flush();
            std::memset(part, 0, sizeof part);
            seen = 0;
        }
    } else {
        for (int i = 0; i <= largest; i++) {
            Vector next[VECTORS];
            for (int n = 0; n < VECTORS; n++) next[n] = product[n] * x[n][i];
            walk<LEFT - 1>(x, i, next, part, s, state, seen);
        }
    }
}

template <int DEGREE>
static inline void all(const Vector (&x)[VECTORS][D], const Vector* ones, Vector (&part)[VECTORS][COLUMNS], Sums& s,
                       const float*& state, int& seen) {
    if constexpr (DEGREE > 0) all<DEGREE - 1>(x, ones, part, s, state, seen);
    walk<DEGREE>(x, D - 1, ones, part, s, state, seen);
}

// output [tokens, E] = U / D and normaliser [tokens] = D of [U, D] = phi(q) S, for q [tokens, D] and S [RANK, E + 1].
extern "C" void read(const float* q, const float* states, float* output, float* normaliser, long tokens) {
    Sums s;
    for (long first = 0; first < tokens; first += LANES * VECTORS) {
        Vector x[VECTORS][D], ones[VECTORS], part[VECTORS][COLUMNS] = {};
        for (int n = 0; n < VECTORS; n++)
            for (int i = 0; i < LANES; i++) {
                const long token = std::min(first + n * LANES + i, tokens - 1);
                for (int j = 0; j < D; j++) x[n][j][i] = q[token * D + j];
                ones[n][i] = 1;
            }
        s.clear();
        const float* state = states;
        int seen = 0;
        all<G>(x, ones, part, s, state, seen);
        std::memcpy(s.part, part, sizeof part);
        s.flush();
        for (int n = 0; n < VECTORS; n++)
            for (int i = 0; i < LANES && first + n * LANES + i < tokens; i++) {
                const long token = first + n * LANES + i;
                for (int c = 0; c < E; c++) output[token * E + c] = s.total[n][c][i] / s.total[n][E][i];
                normaliser[token] = s.total[n][E][i];
            }
    }
}
