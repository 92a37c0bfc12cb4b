// A libcuda.so.1 that prints what it is asked, to see what cuda-bindings makes of our calls where there is no driver.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 1000 * attribute + device; return 0; }
int cuModuleLoadData(void **module, const void *image) {
  *module = (void *)0x11;
  return memcmp(image, "bad", 3) ? 0 : 200;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  printf("function %s of %p\n", name, module);
  *function = (void *)0x22;
  return 0;
}
int cuModuleUnload(void *module) { printf("unload %p\n", module); return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  printf("launch %p on %u %u %u x %u %u %u shared %u stream %lx with %lx %lx\n", function, gx, gy, gz, bx, by, bz,
         shared, (unsigned long)stream, *(uint64_t *)arguments[0], *(uint64_t *)arguments[1]);
  return extra ? 1 : 0;
}
int cuMemsetD8Async(uint64_t address, unsigned char value, size_t size, void *stream) {
  printf("fill %lx with %d, %zu bytes, stream %lx\n", address, value, size, (unsigned long)stream);
  return 0;
}
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR_INVALID_IMAGE"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "device kernel image is invalid"; return 0; }
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  *function = dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), name);
  if (status) *status = *function ? 0 : 1;
  return *function ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}
