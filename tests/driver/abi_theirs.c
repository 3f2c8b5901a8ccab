/* abi_theirs.c - the numbers of abi_numbers.h as cuda.h has them; signatures are compared while this compiles. */
#include <stddef.h>
#include <stdint.h>

#include "abi_numbers.h"

extern const struct abi_number abi_theirs[];
extern const int abi_theirs_version;

#ifdef HAVE_CUDA_H

    #define __CUDA_API_VERSION_INTERNAL /* declares every version of a function under its own name */
    #include <cuda.h>

    #include "cuda_functions.h"

const int abi_theirs_version = CUDA_VERSION;
const struct abi_number abi_theirs[] = {ABI_NUMBERS{NULL, 0}};

    #define SAME_TYPE(name, version, parameters) \
        typedef CUresult CUDAAPI name##_type parameters; \
        _Static_assert(__builtin_types_compatible_p(name##_type, __typeof__(name)), #name " as in cuda.h");
CUDA_FUNCTIONS(SAME_TYPE)

#else

const int abi_theirs_version = 0;
const struct abi_number abi_theirs[] = {{NULL, 0}};

#endif
