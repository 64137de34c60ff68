// How the item vectors that answers are scored with are stored.
#pragma once

namespace shortlist {

// Every kind rounds each row on its own, when it is added, to values that float32 holds exactly;
// scores are exact with respect to these stored values. bfloat16 and float16 round to nearest, ties
// to even. int8 keeps no rows beside the 8-bit codes of the scan: one scale a row, codes -127 ..
// 127; its answers are approximate, and their recall is measured when an index is built.
enum class Storage : int { float32 = 0, float16 = 1, bfloat16 = 2, int8 = 3 };

}  // namespace shortlist
