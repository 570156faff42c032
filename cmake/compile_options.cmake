# One interface target carries the flags of every object of ours, so that no flag is global.
add_library(forerun_options INTERFACE)
# -ffp-contract=off: a multiply-add is fused where the source says fma, nowhere else (exactness contract).
target_compile_options(forerun_options INTERFACE -ffp-contract=off -fvisibility=hidden -fvisibility-inlines-hidden
                                                 -Wall -Wextra -Wno-missing-field-initializers)
if(FORERUN_WERROR)
  target_compile_options(forerun_options INTERFACE -Werror)
endif()
target_link_options(forerun_options INTERFACE -Wl,-z,noexecstack)
if(FORERUN_SANITIZE)
  # -O1: at -O3 the compiler takes many minutes for a file of kernels, checks included.
  target_compile_options(forerun_options INTERFACE -fsanitize=${FORERUN_SANITIZE} -fno-sanitize-recover=all
                                                   -O1 -g1 -fno-omit-frame-pointer)
  target_link_options(forerun_options INTERFACE -fsanitize=${FORERUN_SANITIZE})
  # Of kernels AddressSanitizer checks accesses by calls: in line they keep the compiler busy for minutes.
  if(FORERUN_SANITIZE MATCHES "address")
    set(FORERUN_KERNEL_CHECKS --param=asan-instrumentation-with-call-threshold=0)
  endif()
endif()
