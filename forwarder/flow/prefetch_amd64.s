#include "textflag.h"
#include "go_asm.h"

// LINE makes of the number of a bucket in DX where in the memory it begins: a bucket has 576 bytes, first its line.
#define LINE \
	LEAQ (DX)(DX*8), DX \
	SHLQ $6, DX

// func prefetchLines(t *Table, hashes *Hash, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-24
	MOVQ t+0(FP), DI
	MOVQ hashes+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ Table_buckets(DI), BX
	MOVQ Table_all(DI), DI
loop:
	MOVQ (SI), AX
	MULQ BX                // the upper half is the first bucket, in DX
	LINE
	PREFETCHT0 (DI)(DX*1)
	ADDQ $8, SI
	DECQ CX
	JNZ  loop
	RET

// func searchLines(t *Table, hashes *Hash, hints *ID, n int) (missed uint64)
//
// It compares the 16 tags of a line at once, and has no branch. SSE2 is all it needs, which every amd64 has.
TEXT ·searchLines(SB), NOSPLIT, $0-40
	MOVQ t+0(FP), DI
	MOVQ hashes+8(FP), SI
	MOVQ hints+16(FP), R8
	MOVQ n+24(FP), CX
	MOVQ Table_buckets(DI), BX
	MOVQ Table_all(DI), DI
	MOVL $-1, R10          // None
	XORL R11, R11
	XORL R13, R13          // the bits of those that are not there, from the top
	MOVL $64, R12
	SUBQ CX, R12
loop:
	MOVQ (SI), AX
	MOVL AX, R14
	ORL  $1, R14           // the tag, in the lower 16 bits
	MOVL R14, X0
	PSHUFLW $0, X0, X0
	PUNPCKLQDQ X0, X0
	MULQ BX                // the first bucket, in DX
	MOVQ DX, R9
	LINE
	MOVOU (DI)(DX*1), X1
	MOVOU 16(DI)(DX*1), X2
	PCMPEQW X0, X1
	PCMPEQW X0, X2
	PACKSSWB X2, X1
	PMOVMSKB X1, AX        // a bit for each slot
	SHLL $4, R9
	BSFL AX, R14           // the lowest
	ADDL R14, R9
	SHLL $5, R14           // 32 bytes an entry, behind the line
	ADDQ R14, DX
	CMPL AX, $1            // carry if there is none
	CMOVLCS R10, R9
	CMOVQCS R11, DX
	RCRQ $1, R13
	MOVL R9, (R8)
	PREFETCHT0 64(DI)(DX*1)
	ADDQ $8, SI
	ADDQ $4, R8
	DECQ CX
	JNZ  loop
	MOVQ R12, CX
	SHRQ CX, R13
	MOVQ R13, missed+32(FP)
	RET

// func prefetchSeconds(t *Table, hashes *Hash, set uint64)
TEXT ·prefetchSeconds(SB), NOSPLIT, $0-24
	MOVQ t+0(FP), DI
	MOVQ hashes+8(FP), SI
	MOVQ set+16(FP), CX
	MOVQ Table_buckets(DI), BX
	MOVQ Table_all(DI), DI
	MOVQ $0x9e3779b97f4a7c15, R8
loop:
	BSFQ CX, R9
	JZ   done
	MOVQ (SI)(R9*8), AX
	ROLQ $32, AX
	IMULQ R8, AX
	MULQ BX                // the upper half is the second bucket, in DX
	LINE
	PREFETCHT0 (DI)(DX*1)
	LEAQ -1(CX), R9
	ANDQ R9, CX
	JMP  loop
done:
	RET

// func searchSeconds(t *Table, hashes *Hash, hints *ID, set uint64) (absent uint64)
TEXT ·searchSeconds(SB), NOSPLIT, $0-40
	MOVQ t+0(FP), DI
	MOVQ hashes+8(FP), SI
	MOVQ hints+16(FP), R8
	MOVQ set+24(FP), CX
	MOVQ Table_buckets(DI), BX
	MOVQ Table_all(DI), DI
	MOVQ $0x9e3779b97f4a7c15, R15
	MOVL $-1, R10          // None
	XORL R11, R11
	XORL R13, R13          // the bits of those that are not there
loop:
	BSFQ CX, R12
	JZ   done
	MOVQ (SI)(R12*8), AX
	MOVL AX, R14
	ORL  $1, R14           // the tag, in the lower 16 bits
	MOVL R14, X0
	PSHUFLW $0, X0, X0
	PUNPCKLQDQ X0, X0
	ROLQ $32, AX
	IMULQ R15, AX
	MULQ BX                // the second bucket, in DX
	MOVQ DX, R9
	LINE
	MOVOU (DI)(DX*1), X1
	MOVOU 16(DI)(DX*1), X2
	PCMPEQW X0, X1
	PCMPEQW X0, X2
	PACKSSWB X2, X1
	PMOVMSKB X1, AX        // a bit for each slot
	SHLL $4, R9
	BSFL AX, R14           // the lowest
	ADDL R14, R9
	SHLL $5, R14
	ADDQ R14, DX
	CMPL AX, $1            // carry if there is none
	CMOVLCS R10, R9
	CMOVQCS R11, DX
	MOVL R9, (R8)(R12*4)
	PREFETCHT0 64(DI)(DX*1)
	CMPL AX, $1
	SBBQ AX, AX            // all ones if there is none
	LEAQ -1(CX), R9
	MOVQ CX, R12
	ANDQ R9, CX            // without the lowest bit
	XORQ CX, R12           // that bit
	ANDQ AX, R12
	ORQ  R12, R13
	JMP  loop
done:
	MOVQ R13, absent+32(FP)
	RET

// func prefetchBucket(b *bucket)
//
// It asks for the eight lines behind the first.
TEXT ·prefetchBucket(SB), NOSPLIT, $0-8
	MOVQ b+0(FP), AX
	PREFETCHT0 64(AX)
	PREFETCHT0 128(AX)
	PREFETCHT0 192(AX)
	PREFETCHT0 256(AX)
	PREFETCHT0 320(AX)
	PREFETCHT0 384(AX)
	PREFETCHT0 448(AX)
	PREFETCHT0 512(AX)
	RET

// func prefetchEntries(t *Table, ids *ID, set uint64)
TEXT ·prefetchEntries(SB), NOSPLIT, $0-24
	MOVQ t+0(FP), DI
	MOVQ ids+8(FP), SI
	MOVQ set+16(FP), CX
	MOVQ Table_all(DI), DI
loop:
	BSFQ CX, R9
	JZ   done
	MOVL (SI)(R9*4), AX
	MOVL AX, DX
	SHRQ $4, DX
	LINE
	ANDL $15, AX
	SHLQ $5, AX
	ADDQ AX, DX
	PREFETCHT0 64(DI)(DX*1) // of None, far outside, nothing comes
	LEAQ -1(CX), R9
	ANDQ R9, CX
	JMP  loop
done:
	RET

// func prefetchClient(a *frame.Addr)
TEXT ·prefetchClient(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	PREFETCHT0 (AX)
	RET
