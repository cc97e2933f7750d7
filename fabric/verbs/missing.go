//go:build !(verbs && cgo && linux)

package verbs

import "whale/fabric"

// Built says whether RDMA is in this program.
const Built = false

// Open makes no endpoint: the error is [ErrNotBuilt].
func Open(Options) (fabric.Endpoint, error) { return nil, ErrNotBuilt }

// Devices lists none: the error is [ErrNotBuilt].
func Devices() ([]Device, error) { return nil, ErrNotBuilt }
