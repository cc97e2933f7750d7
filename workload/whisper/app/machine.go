package app

import (
	"time"

	"whale/workload"
)

// Still is a machine on which nothing takes time: for runs that are not measured.
type Still struct{ workload.Real }

// Compute returns at once.
func (Still) Compute(time.Duration) {}

// Think pays for what a program computes besides a transaction, if anything.
func Think(t *workload.Thread, d time.Duration) {
	if d > 0 {
		t.Compute(d)
	}
}
