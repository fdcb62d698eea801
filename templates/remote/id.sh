put id "$(first /etc/gitlab-runner/.runner_system_id)"
