from tfrs_croloss.commands.__main__ import main

main()
