//go:build linux

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"whale/internal/command"
	"whale/internal/node"
)

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of the program and of its formats",
		Example: "  whale version",
		Args:    cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "whale\t%s\n", version())
			fmt.Fprintf(w, "go\t%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			fmt.Fprintf(w, "node protocol\t%d\n", node.ProtocolVersion)
			fmt.Fprintf(w, "behaves as Redis\t%s\n", command.RedisVersion)
			w.Flush()
		},
	}
}

// version is the module's version and the commit that the program was built from, as far as the build says.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown (built without module information)"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if commit := set["vcs.revision"]; commit != "" {
		v += " commit " + commit[:min(12, len(commit))]
		if set["vcs.modified"] == "true" {
			v += " with changes"
		}
		if at := set["vcs.time"]; at != "" {
			v += " of " + at
		}
	}
	return v
}
