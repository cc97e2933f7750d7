#include "textflag.h"

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// The three flushes differ in one instruction. AX walks the lines from the one of p on; CX is p+n.

// func clwb(p *byte, n int)
TEXT ·clwb(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX
	ADDQ AX, CX
	ANDQ $~63, AX
line:
	CMPQ AX, CX
	JCC  done
	CLWB (AX)
	ADDQ $64, AX
	JMP  line
done:
	RET

// func clflushopt(p *byte, n int)
TEXT ·clflushopt(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX
	ADDQ AX, CX
	ANDQ $~63, AX
line:
	CMPQ AX, CX
	JCC  done
	CLFLUSHOPT (AX)
	ADDQ $64, AX
	JMP  line
done:
	RET

// func clflush(p *byte, n int)
TEXT ·clflush(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX
	ADDQ AX, CX
	ANDQ $~63, AX
line:
	CMPQ AX, CX
	JCC  done
	CLFLUSH (AX)
	ADDQ $64, AX
	JMP  line
done:
	RET

// func sfence()
TEXT ·sfence(SB), NOSPLIT, $0-0
	SFENCE
	RET

// func copyLinesNT(dst, src *byte, lines int)
// dst is a multiple of 64, src need not be. Whole lines fill a write-combining buffer, which leaves as one transfer.
TEXT ·copyLinesNT(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ lines+16(FP), CX
line:
	TESTQ CX, CX
	JZ    done
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVNTO X0, 0(DI)
	MOVNTO X1, 16(DI)
	MOVNTO X2, 32(DI)
	MOVNTO X3, 48(DI)
	ADDQ  $64, SI
	ADDQ  $64, DI
	DECQ  CX
	JMP   line
done:
	RET
