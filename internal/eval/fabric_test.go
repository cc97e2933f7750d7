//go:build linux

package eval

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"whale/internal/loopback"
)

const targetEnv = "WHALE_EVAL_TARGET"

func TestMain(m *testing.M) {
	if os.Getenv(targetEnv) != "" { // the second process of TestFabricBench
		if err := FabricTarget(context.Background(), os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestFabricBench: every operation is measured on every provider, and the figures are of something that happened.
func TestFabricBench(t *testing.T) {
	t.Setenv(targetEnv, "1")
	b := FabricBench{Providers: loopback.Providers, Target: []string{os.Args[0]}, Dir: t.TempDir(), Duration: 20 * time.Millisecond}
	rows, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(loopback.Providers)*len(fabricOps) {
		t.Errorf("%d rows", len(rows))
	}
	for _, r := range rows {
		// An operation over shm may take no time that the clock can tell: it is done when Post returns.
		if r.P50 < 0 || r.P50 == 0 && r.Provider != "shm" || r.P99 < r.P50 || r.PerSecond <= 0 {
			t.Errorf("%+v", r)
		}
	}
	var out bytes.Buffer
	if err := WriteFabric(&out, rows); err != nil || strings.Count(out.String(), "\n") != len(rows)+1 {
		t.Errorf("%v\n%s", err, out.String())
	}
	b.Providers = []string{"carrier pigeon"}
	if _, err := b.Run(t.Context()); err == nil {
		t.Error("an unknown provider was measured")
	}
}
