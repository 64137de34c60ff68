// Compares every function of a kernel table with the scalar one, bit by bit.
#pragma once

#include "src/kernels/kernels.hpp"

// Prints each difference to stderr (the first few); returns their number.
int check_kernels(const shortlist::kernels::Table& table);
