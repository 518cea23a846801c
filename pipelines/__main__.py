from tfrs_croloss.commands.entry import main

if __name__ == "__main__":
    main()
