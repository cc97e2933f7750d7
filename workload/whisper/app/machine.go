package app

import (
	"time"

	"whale/workload"
)

// Still is a machine on which nothing takes time: for runs that are not measured.
type Still struct{ workload.Real }

// Compute returns at once.
func (Still) Compute(time.Duration) {}
