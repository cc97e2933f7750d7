//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// slice is how long a thread of a node runs, at most, while others wait for its processor.
//
// On a machine with few processors the primary and its clients would wait for a backup, which takes in what nobody waits
// for. So it offers the processor to others after each step (sched_yield), but who does that gives away what is left of its
// slice: with slices of the usual length (1.4 ms on two processors) a busy machine leaves so little to a backup that it
// falls behind until the primary's ring is full.
const slice = 200 * time.Microsecond

// shortSlices asks for such slices for all threads of this process, and so for those that they start. It needs no right.
// Linux heeds it from 6.12 on; before, nothing changes.
func shortSlices() error {
	for done := map[int]bool{}; ; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		before := len(done)
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid] = true
			attr, err := unix.SchedGetAttr(tid, 0)
			if err == nil && attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
				continue // somebody has decided otherwise
			}
			if err == nil {
				attr.Runtime = uint64(slice)
				err = unix.SchedSetAttr(tid, attr, 0)
			}
			if err != nil && err != unix.ESRCH {
				return fmt.Errorf("sched_setattr: %w", err)
			}
		}
		if len(done) == before {
			return nil
		}
	}
}
