/*
 * The one function of bcryptprimitives.dll that Rust's standard library takes from it, for Wine before 8.13, which has no
 * such library. A test's crutch; Windows has its own.
 *
 *     x86_64-w64-mingw32-gcc -shared -o bcryptprimitives.dll bcryptprimitives.c -ladvapi32
 */
#include <windows.h>

#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    return RtlGenRandom(data, (ULONG)length);
}
