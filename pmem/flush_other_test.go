//go:build !amd64

package pmem

import (
	"path/filepath"
	"runtime"
	"testing"
)

func TestDomainsWithFlushesAreRefused(t *testing.T) {
	for _, d := range []Domain{ADR, EADR} {
		path := filepath.Join(t.TempDir(), "memory")
		_, err := Map(path, 4096, Options{Domain: d})
		wantError(t, err, path, d.String(), runtime.GOARCH)
	}
}
