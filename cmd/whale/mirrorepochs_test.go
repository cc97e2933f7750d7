//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestMirrorEpochs prints an application beside its original, and says what it was asked wrongly.
func TestMirrorEpochs(t *testing.T) {
	for args, want := range map[string]string{
		"--workload CTree --transactions 50": "10/10/10",
		"--workload nothing":                 "choose one of echo",
		"--transactions 0":                   "want 1 or more",
	} {
		cmd := rootCmd()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"mirror", "epochs"}, strings.Fields(args)...))
		if err := cmd.Execute(); err != nil {
			out.WriteString(err.Error())
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s, want %q", args, out.String(), want)
		}
	}
}
