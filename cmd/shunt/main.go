// Command shunt is an LVS/DR director in userspace. It owns a virtual IP address and forwards each
// frame for it to a realserver, unchanged except for the destination MAC. `shunt help` lists the
// other commands.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"shunt/internal/config"
)

func main() {
	if filepath.Base(os.Args[0]) == "ipvsadm" {
		os.Exit(runIpvsadm(context.Background(), os.Args[1:]))
	}
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns the exit status: 0, 1 if the command failed, 2 if the
// command line was wrong.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "shunt: %v\nTry 'shunt help' or 'shunt COMMAND --help'.\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "shunt: %v\n", err)
	return 1
}

// exitStatus ends the program with a status. All messages have been printed before.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is an error in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "shunt",
		Short: "LVS/DR director in userspace",
		Long: "shunt owns a virtual IP address (VIP) and forwards each frame for it to a realserver, unchanged\n" +
			"except for the destination MAC. The realserver replies to the client directly.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q%s", args[0], instead(cmd, args[0]))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		name, ok := strings.CutPrefix(err.Error(), "unknown flag: ")
		if !ok {
			return usageError{err}
		}
		return usageError{fmt.Errorf("%w%s", err, nearestFlag(cmd, name))}
	})
	root.SetVersionTemplate("shunt {{.Version}}\n")
	root.AddCommand(runCmd(), checkCmd(), statusCmd(), topCmd(), explainCmd(), ipvsadmCmd(), connsCmd(), replayCmd(), benchCmd(), labCmd(),
		realserverCmd(), doctorCmd(), convertCmd(), configCmd(), reloadCmd(), drainCmd(), enableCmd(), versionCmd(), manCmd())
	return root
}

// socketVariable is the environment variable that replaces --socket.
const socketVariable = "SHUNT_SOCKET"

// defaultSocket is the control socket if no --socket is given.
func defaultSocket() string { return cmp.Or(os.Getenv(socketVariable), config.DefaultSocket) }

// socketFlag adds --socket, the control socket of the director.
func socketFlag(flags *pflag.FlagSet, socket *string) {
	flags.StringVar(socket, "socket", defaultSocket(), "control socket of the director, or NAME for /run/shunt/NAME.sock; default from "+socketVariable+" if set")
}

// instead suggests a command with a name close to an unknown one.
func instead(cmd *cobra.Command, name string) string {
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		return "; did you mean " + strings.Join(s, " or ") + "?"
	}
	return ""
}

// nearestFlag suggests a flag with a name close to an unknown one, as cobra does for commands.
func nearestFlag(cmd *cobra.Command, name string) string {
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	known := func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	}
	cmd.Flags().VisitAll(known)
	cmd.InheritedFlags().VisitAll(known)
	if s := flags.SuggestionsFor(strings.TrimLeft(name, "-")); len(s) > 0 {
		return "; did you mean --" + strings.Join(s, " or --") + "?"
	}
	return ""
}

// noCommand is for commands with subcommands: it rejects the name of an unknown subcommand.
func noCommand(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%s: unknown command %q%s", name, args[0], instead(cmd, args[0]))}
		}
		return nil
	}
}

// noArgs rejects positional arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s: unexpected argument %q", cmd.Name(), args[0])}
	}
	return nil
}
