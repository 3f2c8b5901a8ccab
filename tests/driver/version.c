/* version.c - which driver this library plays; the build compiles it once for each. */
#include "driver.h"

const int driver_version_built = DRIVER_VERSION;
