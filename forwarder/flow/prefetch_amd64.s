#include "textflag.h"

// func prefetchLines(lines *line, buckets uint64, hashes *Hash, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-32
	MOVQ lines+0(FP), DI
	MOVQ buckets+8(FP), BX
	MOVQ hashes+16(FP), SI
	MOVQ n+24(FP), CX
	TESTQ CX, CX
	JLE  done
loop:
	MOVQ (SI), AX
	MULQ BX               // the upper half is the first bucket, in DX
	SHLQ $6, DX
	PREFETCHT0 (DI)(DX*1)
	ADDQ $8, SI
	DECQ CX
	JNZ  loop
done:
	RET

// func prefetchEntries(entries *Entry, ids *ID, n int)
TEXT ·prefetchEntries(SB), NOSPLIT, $0-24
	MOVQ entries+0(FP), DI
	MOVQ ids+8(FP), SI
	MOVQ n+16(FP), CX
	TESTQ CX, CX
	JLE  done
loop:
	MOVL (SI), AX
	SHLQ $5, AX
	PREFETCHT0 (DI)(AX*1) // of None, far outside, nothing comes
	ADDQ $4, SI
	DECQ CX
	JNZ  loop
done:
	RET

// func prefetchClients(ext *frame.Addr, ids *ID, n int)
TEXT ·prefetchClients(SB), NOSPLIT, $0-24
	MOVQ ext+0(FP), DI
	MOVQ ids+8(FP), SI
	MOVQ n+16(FP), CX
	TESTQ CX, CX
	JLE  done
loop:
	MOVL (SI), AX
	SHLQ $4, AX
	PREFETCHT0 (DI)(AX*1) // likewise
	ADDQ $4, SI
	DECQ CX
	JNZ  loop
done:
	RET
