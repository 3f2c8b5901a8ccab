#!/usr/bin/env python3
"""numpy takes tensors of ours by DLPack and gives us its own. Skipped (status 77) where numpy is not installed.

    dlpack.py --cc 'COMPILER'
"""

import argparse
import ctypes
import sys

from common import ROOT, Checks, Workplace, split

try:
    import numpy
except ImportError:
    print('skipped: numpy is not here')
    sys.exit(77)

LIBRARY = r'''
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
static ta_pool *pool;
int open_pool(void) { return ta_pool_create(NULL, &pool); }
int close_pool(void) { return ta_pool_destroy(pool); }
size_t live(void) { ta_stats s; return ta_pool_get_stats(pool, &s) == TA_OK ? s.live_count : 99; }
static int make(int dtype, ta_tensor *tensor)
{
    int64_t dims[2] = {3, 4};
    ta_result result = ta_tensor_create(ta_pool_allocator(pool), (ta_dtype)dtype, dims, 2, 0, 0, tensor);
    if (result == TA_OK) { memset(tensor->buffer.data, 0, tensor->buffer.size_bytes); *(char *)tensor->buffer.data = 1; }
    return result;
}
void *legacy(int dtype)
{
    ta_tensor t;
    ta_dlpack *o = NULL;
    return make(dtype, &t) == TA_OK && ta_dlpack_export(&t, 0, &o) == TA_OK ? o : NULL;
}
void *versioned(int dtype)
{
    ta_tensor t;
    ta_dlpack_versioned *o = NULL;
    return make(dtype, &t) == TA_OK && ta_dlpack_export_versioned(&t, 0, &o) == TA_OK ? o : NULL;
}
int import_legacy(ta_dlpack *o, ta_tensor *out) { return ta_dlpack_import(&o->tensor, out); }
double sum(const ta_tensor *t)
{
    double s = 0; int64_t at[2];
    for (at[0] = 0; at[0] < t->dims[0]; at[0]++) {
        for (at[1] = 0; at[1] < t->dims[1]; at[1]++) { s += *(double *)ta_tensor_at(t, at); }
    }
    return s;
}
size_t tensor_bytes(void) { return sizeof(ta_tensor); }
'''
# by ta_dtype; what numpy knows of them
DTYPES = {0: 'float16', 2: 'float32', 3: 'float64', 6: 'int8', 7: 'int16', 8: 'int32', 9: 'int64', 10: 'uint8',
          11: 'uint16', 12: 'uint32', 13: 'uint64', 15: 'complex64', 16: 'complex128'}
pythonapi = ctypes.pythonapi
pythonapi.PyCapsule_New.restype = ctypes.py_object
pythonapi.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Producer:
    """What has __dlpack__: hands out a capsule of ours, in the newest kind that is asked for."""

    def __init__(self, library, dtype, newest):
        self.library, self.dtype, self.newest, self.gave = library, dtype, newest, None

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, stream=None, max_version=None, **unused):
        versioned = self.newest and max_version is not None and max_version[0] >= 1
        self.gave = b'dltensor_versioned' if versioned else b'dltensor'
        pointer = (self.library.versioned if versioned else self.library.legacy)(self.dtype)
        return pythonapi.PyCapsule_New(pointer, self.gave, None)


def ours(checks, library):
    gave = set()
    for dtype, name in DTYPES.items():
        for newest in (False, True):
            producer = Producer(library, dtype, newest)
            array = numpy.from_dlpack(producer)
            gave.add(producer.gave)
            checks.check(array.dtype == numpy.dtype(name) and array.shape == (3, 4), name, str(array.dtype))
            checks.check(array.view(numpy.uint8).reshape(-1)[0] == 1 and array.reshape(-1)[1:].any() == False, name)
            checks.check(array.ctypes.data % 64 == 0, 'aligned as a pool does')
            checks.check(library.live() == 1, 'numpy holds it')
            del array
            checks.check(library.live() == 0, 'and gives it back')
    print('numpy %s took %s' % (numpy.__version__, ', '.join(sorted(kind.decode() for kind in gave))))


def theirs(checks, library):
    tensor = ctypes.create_string_buffer(library.tensor_bytes())
    whole = numpy.arange(12, dtype=numpy.float64).reshape(3, 4)
    for array in (whole, whole[:, ::2], whole[1:], whole.T):
        capsule = array.__dlpack__()
        pointer = pythonapi.PyCapsule_GetPointer(capsule, b'dltensor')
        checks.check(library.import_legacy(pointer, tensor) == 0, 'numpy gives one')
        checks.check(library.sum(tensor) == array.sum(), 'with its elements')
    strange = numpy.zeros(3, dtype=numpy.complex128 if numpy.dtype('longdouble').itemsize == 8 else numpy.longdouble)
    if strange.dtype == numpy.longdouble:
        try:
            pointer = pythonapi.PyCapsule_GetPointer(strange.__dlpack__(), b'dltensor')
            checks.check(library.import_legacy(pointer, tensor) != 0, 'what no dtype of ours is like is refused')
        except (BufferError, RuntimeError):
            pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cc', required=True)
    options = parser.parse_args()
    checks = Checks()
    with Workplace() as workplace:
        source, target = workplace / 'library.c', workplace / 'library.so'
        source.write_text(LIBRARY)
        if checks.runs('the library compiles', [*split(options.cc), '-O1', '-fPIC', '-shared', '-I', ROOT, source, '-o',
                                                target, '-pthread']):
            library = ctypes.CDLL(str(target))
            library.legacy.restype = library.versioned.restype = ctypes.c_void_p
            library.live.restype = library.tensor_bytes.restype = ctypes.c_size_t
            library.import_legacy.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            library.sum.argtypes, library.sum.restype = [ctypes.c_void_p], ctypes.c_double
            checks.check(library.open_pool() == 0, 'a pool')
            ours(checks, library)
            theirs(checks, library)
            checks.check(library.close_pool() == 0, 'no block is held')
    checks.close()


main()
