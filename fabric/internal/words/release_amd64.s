//go:build !race

#include "textflag.h"

// func StoreRelease(p *atomic.Uint64, v uint64)
// A plain store: x86 makes stores visible in their order (Intel SDM 3A, 9.2.2), those that pass the caches by excepted.
TEXT ·StoreRelease(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ v+8(FP), CX
	MOVQ CX, (AX)
	RET
