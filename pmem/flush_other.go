//go:build !amd64

package pmem

import (
	"fmt"
	"runtime"
)

// flusher is the way a line takes out of the caches: here there is none, and domains that need one are refused, so
// that the functions below are reached by domains that need nothing of them.
type flusher uint8

const noFlush flusher = 0

func flusherFor(d Domain) (flusher, error) {
	if d == ADR || d == EADR {
		return noFlush, fmt.Errorf("domain %v is for amd64, this is %s: use FileShared", d, runtime.GOARCH)
	}
	return noFlush, nil
}

func flush(flusher, []byte) {}

func copyFlushed(_ flusher, dst, src []byte) { copy(dst, src) }

func sfence() {}
