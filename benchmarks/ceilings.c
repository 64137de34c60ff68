// What this CPU can do at best, on one thread: 8-bit multiply-adds, float32 fused multiply-adds,
// memory reads. Compiled by ceilings.py with the flags of the SIMD level in use; x86-64 only.
#include <immintrin.h>
#include <stddef.h>

// Twelve independent accumulators hide the latency of every instruction below.
#define TWELVE(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)

#if defined(__AVX512VNNI__)
#define DOT(i) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #i "\n\t"
#define DOT_BYTES 64
#elif defined(__AVXVNNI__)
#define DOT(i) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n\t"
#define DOT_BYTES 32
#else  // the multiply alone: what the scan could reach if widening and adding were free
#define DOT(i) "vpmaddubsw %%ymm12, %%ymm13, %%ymm" #i "\n\t"
#define DOT_BYTES 32
#endif

#if defined(__AVX512F__)
#define FMA(i) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #i "\n\t"
#define FMA_FLOATS 16
#else
#define FMA(i) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n\t"
#define FMA_FLOATS 8
#endif

#define CLOBBERS                                                                           \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13"

#define ZERO(i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"

// Multiply-adds of one instruction.
long dot_bytes(void) { return DOT_BYTES; }
long fma_floats(void) { return FMA_FLOATS; }

// Twelve instructions a round.
void peak_8bit(long rounds) {
  __asm__ volatile(TWELVE(ZERO) ZERO(12) ZERO(13)::: CLOBBERS);
  for (long i = 0; i < rounds; ++i) __asm__ volatile(TWELVE(DOT)::: CLOBBERS);
}

void peak_float32(long rounds) {
  __asm__ volatile(TWELVE(ZERO) ZERO(12) ZERO(13)::: CLOBBERS);
  for (long i = 0; i < rounds; ++i) __asm__ volatile(TWELVE(FMA)::: CLOBBERS);
}

// data is 32-byte aligned, size a multiple of 128.
void read_bandwidth(const unsigned char* data, size_t size) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (size_t at = 0; at < size; at += 128) {
    a = _mm256_xor_si256(a, _mm256_load_si256((const __m256i*)(data + at)));
    b = _mm256_xor_si256(b, _mm256_load_si256((const __m256i*)(data + at + 32)));
    c = _mm256_xor_si256(c, _mm256_load_si256((const __m256i*)(data + at + 64)));
    d = _mm256_xor_si256(d, _mm256_load_si256((const __m256i*)(data + at + 96)));
  }
  a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
  __asm__ volatile("" ::"x"(a));  // the reads must happen
}
