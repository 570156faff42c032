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
  target_compile_options(forerun_options INTERFACE -fsanitize=${FORERUN_SANITIZE} -fno-omit-frame-pointer
                                                   -fno-sanitize-recover=all)
  target_link_options(forerun_options INTERFACE -fsanitize=${FORERUN_SANITIZE})
endif()
