// The program gitlab-runner: the commands, the configuration, the network code and the Kubernetes executor are
// GitLab's. Only this wiring is ours, and it leaves out the executors that the tests do not use.
package main

import (
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/kubernetes"
	"gitlab.com/gitlab-org/gitlab-runner/executors/shell"
	clihelpers "gitlab.com/gitlab-org/gitlab-runner/helpers/cli"
	"gitlab.com/gitlab-org/gitlab-runner/log"
	"gitlab.com/gitlab-org/gitlab-runner/network"
	"gitlab.com/gitlab-org/gitlab-runner/router"

	_ "gitlab.com/gitlab-org/gitlab-runner/shells"
)

func main() {
	// The runner's code leaves a command by a panic of a log entry that is already written.
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case *logrus.Entry:
			os.Exit(1)
		default:
			panic(fault)
		}
	}()

	own, err := os.Executable()
	if err != nil {
		logrus.Fatal(err)
	}
	providers := executors.NewProviderRegistry(map[string]common.ExecutorProvider{
		common.ExecutorKubernetes: kubernetes.NewProvider(),
		"shell":                   shell.NewProvider(own),
	})

	requests := network.NewAPIRequestsCollector()
	certificates := commands.GetDefaultCertificateDirectory()
	gitlab := router.NewClient(
		network.NewGitLabClient(
			network.WithAPIRequestsCollector(requests),
			network.WithCertificateDirectory(certificates),
			network.WithExecutorProviderFunc(providers.GetByName),
		),
		certificates,
		common.AppVersion.UserAgent(),
	)
	defer gitlab.Shutdown()

	app := cli.NewApp()
	app.Name = filepath.Base(os.Args[0])
	app.Usage = "a GitLab Runner"
	app.Version = common.AppVersion.ShortLine()
	cli.VersionPrinter = common.AppVersion.Printer
	app.CommandNotFound = func(_ *cli.Context, name string) {
		logrus.Fatalln("Command", name, "not found.")
	}
	app.Commands = append([]cli.Command{
		commands.NewListCommand(),
		commands.NewLintCommand(),
		commands.NewRegisterCommand(gitlab, providers),
		commands.NewResetTokenCommand(gitlab),
		commands.NewRunCommand(gitlab, requests, providers),
		commands.NewRunSingleCommand(gitlab, providers),
		commands.NewUnregisterCommand(gitlab),
		commands.NewVerifyCommand(gitlab),
	}, commands.NewServiceCommands()...)

	clihelpers.InitCli()
	clihelpers.LogRuntimePlatform(app)
	clihelpers.FixHOME(app)
	clihelpers.WarnOnBool(os.Args)
	log.ConfigureLogging(app)

	if err := app.Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}
