from witness_service.cli import main

main()
