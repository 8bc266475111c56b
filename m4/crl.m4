dnl crl.m4 - the project's own checks, used by configure.ac.

dnl CRL_C11 - the compiler must speak C11 with atomics.
AC_DEFUN([CRL_C11], [
  AC_CACHE_CHECK([for C11 with atomics], [crl_cv_c11], [
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
        #include <stdatomic.h>
        _Static_assert(sizeof(int) >= 4, "int");
        static atomic_uint a;]], [[atomic_fetch_add(&a, 1);]])],
      [crl_cv_c11=yes], [crl_cv_c11=no])])
  AS_IF([test "$crl_cv_c11" = no], [AC_MSG_ERROR([a C11 compiler is needed; try CC="gcc -std=gnu11"])])
])

dnl CRL_OPENMP - OPENMP_CFLAGS, or an error: threads are not optional.
AC_DEFUN([CRL_OPENMP], [
  AC_OPENMP
  AS_IF([test -z "$OPENMP_CFLAGS" || test "x$ac_cv_prog_c_openmp" = xunsupported],
    [AC_MSG_ERROR([OpenMP is needed: gcc has it, clang wants the package libomp-dev (Debian) or libomp-devel (Fedora)])])
])

dnl CRL_LIBNUMA - NUMA_CFLAGS, NUMA_LIBS; the library ships a .pc file only in newer versions.
AC_DEFUN([CRL_LIBNUMA], [
  PKG_CHECK_MODULES([NUMA], [numa], [], [
    AC_CHECK_HEADER([numa.h], [], [AC_MSG_ERROR([libnuma is needed: package libnuma-dev (Debian) or numactl-devel (Fedora)])])
    AC_CHECK_LIB([numa], [numa_available], [NUMA_LIBS=-lnuma], [AC_MSG_ERROR([libnuma does not link])])
    AC_SUBST([NUMA_LIBS])])
])

dnl CRL_ISA(NAME, HOST-CPU, FLAGS) - HAVE_NAME as automake conditional and C macro, NAME_CFLAGS, when the compiler
dnl targets HOST-CPU and takes FLAGS. Says nothing about the machine this runs on: that is found out at start.
AC_DEFUN([CRL_ISA], [
  AC_REQUIRE([AC_CANONICAL_HOST])
  AC_CACHE_CHECK([for $1 ($3)], [crl_cv_isa_$1], [
    crl_cv_isa_$1=no
    AS_CASE(["$host_cpu"], [$2], [
      crl_saved_CFLAGS=$CFLAGS
      CFLAGS="$CFLAGS $3 -Werror"
      AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [crl_cv_isa_$1=yes])
      CFLAGS=$crl_saved_CFLAGS])])
  AM_CONDITIONAL([HAVE_$1], [test "x$crl_cv_isa_$1" = xyes])
  AS_IF([test "x$crl_cv_isa_$1" = xyes], [
    AC_DEFINE([HAVE_$1], [1], [the compiler builds $1 kernels])
    $1_CFLAGS="$3"])
  AC_SUBST([$1_CFLAGS])
])

dnl CRL_WARNINGS - WARN_CFLAGS; --enable-werror turns warnings into errors. No -ffast-math ever: NaN and the order of
dnl sums are part of the contract, so contraction into fused operations is written out where it is wanted.
AC_DEFUN([CRL_WARNINGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat warnings as errors])])
  WARN_CFLAGS="-Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -Wshadow -Wpointer-arith -Wvla -ffp-contract=off"
  AS_IF([test "x$enable_werror" = xyes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
  AC_SUBST([WARN_CFLAGS])
])

dnl CRL_SANITIZERS - --enable-sanitize builds everything with the address and undefined-behaviour sanitizers;
dnl --enable-fuzz the same for the fuzz harnesses, which FUZZ_ENGINE then links with libFuzzer.
AC_DEFUN([CRL_SANITIZERS], [
  AC_ARG_ENABLE([sanitize], [AS_HELP_STRING([--enable-sanitize], [address and undefined-behaviour sanitizers])])
  AC_ARG_ENABLE([fuzz], [AS_HELP_STRING([--enable-fuzz], [fuzz harnesses for libFuzzer, with the sanitizers (clang)])])
  AS_IF([test "x$enable_sanitize" = xyes || test "x$enable_fuzz" = xyes],
    [SANITIZE_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
     # Warnings are the plain build's business: gcc sees truncations in instrumented code that are not there.
     WARN_CFLAGS="-ffp-contract=off"])
  AS_IF([test "x$enable_fuzz" = xyes],
    [SANITIZE_CFLAGS="$SANITIZE_CFLAGS -fsanitize=fuzzer-no-link"
     FUZZ_ENGINE="-fsanitize=fuzzer"])
  AC_SUBST([SANITIZE_CFLAGS])
  AC_SUBST([FUZZ_ENGINE])
  AM_CONDITIONAL([SANITIZE], [test "x$enable_sanitize" = xyes])
  AM_CONDITIONAL([FUZZ], [test "x$enable_fuzz" = xyes])
])

dnl CRL_XXHASH_DISPATCH - some builds of xxHash choose the widest instructions at run time; the plain functions are those
dnl of the weakest processor.
AC_DEFUN([CRL_XXHASH_DISPATCH], [
  crl_save_LIBS=$LIBS
  LIBS="$XXHASH_LIBS $LIBS"
  AC_CHECK_HEADER([xxh_x86dispatch.h], [
    AC_CHECK_FUNC([XXH3_64bits_update_dispatch],
      [AC_DEFINE([HAVE_XXHASH_DISPATCH], [1], [Define to 1 if xxHash chooses its instructions at run time.])])
  ], [], [#include <xxhash.h>])
  LIBS=$crl_save_LIBS
])
